//! Every opcode of a legacy script, and every one of a tapscript: once where it does what it is for, once where it fails.

use std::collections::BTreeSet;

use bitcoin::key::TapTweak as _;
use bitcoin::secp256k1::{Keypair, SECP256K1};
use bitcoin::taproot::{LeafVersion, TapNodeHash};
use bitcoin::{Script, ScriptBuf, Witness};
use l1_utxo::consensus::script::ScriptError::{self as E};
use l1_utxo::consensus::script::ScriptFlags;

use super::{Spend, asm, opcodes};

type Row = (&'static str, &'static str, Result<(), E>);

/// What is on the stack, the script, the verdict under the rules of blocks.
const ROWS: &[Row] = &[
    ("", "0 NOT", Ok(())),
    ("", "0", Err(E::EvalFalse)),
    ("", "0x4c0107 7 EQUAL", Ok(())),
    ("", "1 0x4c0207", Err(E::BadOpcode)),
    ("", "0x4d010007 7 EQUAL", Ok(())),
    ("", "1 0x4d020007", Err(E::BadOpcode)),
    ("", "0x4e0100000007 7 EQUAL", Ok(())),
    ("", "1 0x4e0200000007", Err(E::BadOpcode)),
    ("", "1 0x4e01", Err(E::BadOpcode)),
    ("", "1NEGATE -1 EQUAL", Ok(())),
    ("", "1NEGATE 1ADD", Err(E::EvalFalse)),
    ("1", "0 IF RESERVED ENDIF", Ok(())),
    ("1", "RESERVED", Err(E::BadOpcode)),
    ("1", "NOP", Ok(())),
    ("0", "NOP", Err(E::EvalFalse)),
    ("1", "0 IF VER ENDIF", Ok(())),
    ("1", "VER", Err(E::BadOpcode)),
    ("2", "IF 1 ELSE 0 ENDIF", Ok(())),
    ("0", "IF 1 ELSE 0 ENDIF", Err(E::EvalFalse)),
    ("", "IF 1 ENDIF", Err(E::InvalidStackOperation)),
    ("0", "NOTIF 1 ELSE 0 ENDIF", Ok(())),
    ("1", "NOTIF 1 ELSE 0 ENDIF", Err(E::EvalFalse)),
    ("", "NOTIF 1 ENDIF", Err(E::InvalidStackOperation)),
    ("1", "0 IF VERIF ENDIF", Err(E::BadOpcode)),
    ("1", "0 IF VERNOTIF ENDIF", Err(E::BadOpcode)),
    ("0", "IF 0 ELSE 1 ELSE 0 ENDIF", Ok(())),
    ("1", "IF 1 ELSE 0 ELSE 1 ENDIF", Ok(())),
    ("1", "ELSE", Err(E::UnbalancedConditional)),
    ("1", "ENDIF", Err(E::UnbalancedConditional)),
    ("1", "IF 1", Err(E::UnbalancedConditional)),
    ("1 1", "VERIFY", Ok(())),
    ("1 0", "VERIFY", Err(E::Verify)),
    ("1", "0 IF RETURN ENDIF", Ok(())),
    ("1", "RETURN", Err(E::OpReturn)),
    ("1 0", "TOALTSTACK", Ok(())),
    ("", "TOALTSTACK 1", Err(E::InvalidStackOperation)),
    ("1 0", "TOALTSTACK VERIFY FROMALTSTACK NOT", Ok(())),
    ("1", "FROMALTSTACK", Err(E::InvalidAltstackOperation)),
    ("1 0 0", "2DROP", Ok(())),
    ("1", "2DROP 1", Err(E::InvalidStackOperation)),
    ("3 4", "2DUP ADD 7 EQUALVERIFY ADD 7 EQUAL", Ok(())),
    ("3", "2DUP", Err(E::InvalidStackOperation)),
    ("1 2 3", "3DUP ADD ADD 6 EQUALVERIFY DEPTH 3 EQUAL", Ok(())),
    ("1 2", "3DUP", Err(E::InvalidStackOperation)),
    ("1 2 3 4", "2OVER 2 EQUALVERIFY 1 EQUALVERIFY DEPTH 4 EQUAL", Ok(())),
    ("1 2 3", "2OVER", Err(E::InvalidStackOperation)),
    ("1 2 3 4 5 6", "2ROT 2 EQUALVERIFY 1 EQUALVERIFY 6 EQUALVERIFY 5 EQUAL", Ok(())),
    ("1 2 3 4 5", "2ROT", Err(E::InvalidStackOperation)),
    ("1 2 3 4", "2SWAP 2 EQUALVERIFY 1 EQUALVERIFY 4 EQUALVERIFY 3 EQUAL", Ok(())),
    ("1 2 3", "2SWAP", Err(E::InvalidStackOperation)),
    ("5", "IFDUP ADD 10 EQUAL", Ok(())),
    ("0", "IFDUP DEPTH 1 EQUALVERIFY NOT", Ok(())),
    ("", "IFDUP 1", Err(E::InvalidStackOperation)),
    ("", "DEPTH 0 EQUAL", Ok(())),
    ("7", "DEPTH 2 EQUAL", Err(E::EvalFalse)),
    ("1 0", "DROP", Ok(())),
    ("", "DROP 1", Err(E::InvalidStackOperation)),
    ("5", "DUP EQUAL", Ok(())),
    ("", "DUP", Err(E::InvalidStackOperation)),
    ("0 1", "NIP DEPTH EQUAL", Ok(())),
    ("1", "NIP", Err(E::InvalidStackOperation)),
    ("1 0", "OVER", Ok(())),
    ("1", "OVER", Err(E::InvalidStackOperation)),
    ("7 6 5", "2 PICK 7 EQUALVERIFY DEPTH 3 EQUAL", Ok(())),
    ("7 6 5", "0 PICK 5 EQUAL", Ok(())),
    ("7 6 5", "3 PICK", Err(E::InvalidStackOperation)),
    ("7 6 5", "-1 PICK", Err(E::InvalidStackOperation)),
    ("5", "PICK", Err(E::InvalidStackOperation)),
    ("7 6 5", "2 ROLL 7 EQUALVERIFY DEPTH 2 EQUAL", Ok(())),
    ("7 6 5", "3 ROLL", Err(E::InvalidStackOperation)),
    ("7 6 5", "-1 ROLL", Err(E::InvalidStackOperation)),
    ("1 2 3", "ROT 1 EQUALVERIFY 3 EQUALVERIFY 2 EQUAL", Ok(())),
    ("1 2", "ROT", Err(E::InvalidStackOperation)),
    ("1 2", "SWAP 1 EQUALVERIFY 2 EQUAL", Ok(())),
    ("1", "SWAP", Err(E::InvalidStackOperation)),
    ("1 2", "TUCK 2 EQUALVERIFY 1 EQUALVERIFY 2 EQUAL", Ok(())),
    ("1", "TUCK", Err(E::InvalidStackOperation)),
    ("0x03aabbcc", "SIZE 3 EQUAL", Ok(())),
    ("0", "SIZE 0 EQUAL", Ok(())),
    ("", "SIZE", Err(E::InvalidStackOperation)),
    ("0x0100 0", "EQUAL NOT", Ok(())),
    ("1", "EQUAL", Err(E::InvalidStackOperation)),
    ("1 2", "EQUAL", Err(E::EvalFalse)),
    ("1 5 5", "EQUALVERIFY", Ok(())),
    ("1 5 6", "EQUALVERIFY", Err(E::EqualVerify)),
    ("1", "0 IF RESERVED1 RESERVED2 ENDIF", Ok(())),
    ("1", "RESERVED1", Err(E::BadOpcode)),
    ("1", "RESERVED2", Err(E::BadOpcode)),
    ("5", "1ADD 6 EQUAL", Ok(())),
    ("2147483647", "1ADD 2147483648 EQUAL", Ok(())),
    ("2147483648", "1ADD", Err(E::ScriptNum)),
    ("5", "1SUB 4 EQUAL", Ok(())),
    ("-2147483647", "1SUB -2147483648 EQUAL", Ok(())),
    ("-2147483648", "1SUB", Err(E::ScriptNum)),
    ("5", "NEGATE -5 EQUAL", Ok(())),
    ("0", "NEGATE", Err(E::EvalFalse)),
    ("-5", "ABS 5 EQUAL", Ok(())),
    ("", "ABS", Err(E::InvalidStackOperation)),
    ("0x0180", "NOT", Ok(())),
    ("2", "NOT", Err(E::EvalFalse)),
    ("-7", "0NOTEQUAL 1 EQUAL", Ok(())),
    ("0x0180", "0NOTEQUAL", Err(E::EvalFalse)),
    ("2 3", "ADD 5 EQUAL", Ok(())),
    ("2147483647 2147483647", "ADD 4294967294 EQUAL", Ok(())),
    ("2147483647", "1 ADD 1 ADD", Err(E::ScriptNum)),
    ("1", "ADD", Err(E::InvalidStackOperation)),
    ("2 3", "SUB -1 EQUAL", Ok(())),
    ("3 3", "SUB", Err(E::EvalFalse)),
    ("1 -1", "BOOLAND", Ok(())),
    ("1 0", "BOOLAND", Err(E::EvalFalse)),
    ("0 1", "BOOLOR", Ok(())),
    ("0 0x0180", "BOOLOR", Err(E::EvalFalse)),
    ("0x020500 5", "NUMEQUAL", Ok(())),
    ("4 5", "NUMEQUAL", Err(E::EvalFalse)),
    ("1 0x0180 0", "NUMEQUALVERIFY", Ok(())),
    ("1 4 5", "NUMEQUALVERIFY", Err(E::NumEqualVerify)),
    ("4 5", "NUMNOTEQUAL", Ok(())),
    ("0x0180 0", "NUMNOTEQUAL", Err(E::EvalFalse)),
    ("-1 0", "LESSTHAN", Ok(())),
    ("0 0", "LESSTHAN", Err(E::EvalFalse)),
    ("1 0", "GREATERTHAN", Ok(())),
    ("0 0", "GREATERTHAN", Err(E::EvalFalse)),
    ("0 0", "LESSTHANOREQUAL", Ok(())),
    ("1 0", "LESSTHANOREQUAL", Err(E::EvalFalse)),
    ("0 0", "GREATERTHANOREQUAL", Ok(())),
    ("-1 0", "GREATERTHANOREQUAL", Err(E::EvalFalse)),
    ("-3 2", "MIN -3 EQUAL", Ok(())),
    ("0 1", "MIN", Err(E::EvalFalse)),
    ("-3 2", "MAX 2 EQUAL", Ok(())),
    ("0 -1", "MAX", Err(E::EvalFalse)),
    ("5 5 6", "WITHIN", Ok(())),
    ("6 5 6", "WITHIN", Err(E::EvalFalse)),
    ("4 5 6", "WITHIN", Err(E::EvalFalse)),
    ("5 6", "WITHIN", Err(E::InvalidStackOperation)),
    ("0", "RIPEMD160 0x149c1185a5c5e9fc54612808977ee8f548b2258d31 EQUAL", Ok(())),
    ("", "RIPEMD160", Err(E::InvalidStackOperation)),
    ("0", "SHA1 0x14da39a3ee5e6b4b0d3255bfef95601890afd80709 EQUAL", Ok(())),
    ("", "SHA1", Err(E::InvalidStackOperation)),
    ("0", "SHA256 0x20e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 EQUAL", Ok(())),
    ("", "SHA256", Err(E::InvalidStackOperation)),
    ("0", "NOP HASH160 0x14b472a266d0bd89c13706a4132ccfb16f7c3b9fcb EQUAL", Ok(())),
    ("", "HASH160", Err(E::InvalidStackOperation)),
    ("0", "HASH256 0x205df6e0e2761359d30a8275058e299fcc0381534545f55cf43e41983f5d4c9456 EQUAL", Ok(())),
    ("", "HASH256", Err(E::InvalidStackOperation)),
    ("1", "CODESEPARATOR", Ok(())),
    ("0", "CODESEPARATOR", Err(E::EvalFalse)),
    ("0 1", "CHECKSIG NOT", Ok(())),
    ("1", "CHECKSIG", Err(E::InvalidStackOperation)),
    ("1 1", "CHECKSIG", Err(E::SigDer)),
    ("1", "0 IF CHECKSIGVERIFY ENDIF", Ok(())),
    ("0 1", "CHECKSIGVERIFY", Err(E::CheckSigVerify)),
    ("0 0 0", "CHECKMULTISIG", Ok(())),
    ("0 0", "CHECKMULTISIG", Err(E::InvalidStackOperation)),
    ("1 0 0", "CHECKMULTISIG", Err(E::SigNullDummy)),
    ("0 0 1 1 1", "CHECKMULTISIG NOT", Ok(())),
    ("0 2 1 1", "CHECKMULTISIG", Err(E::SigCount)),
    ("0 -1 0", "CHECKMULTISIG", Err(E::SigCount)),
    ("0 0 -1", "CHECKMULTISIG", Err(E::PubkeyCount)),
    ("1 0 0 0", "CHECKMULTISIGVERIFY", Ok(())),
    ("0 0 1 1 1", "CHECKMULTISIGVERIFY 1", Err(E::CheckMultisigVerify)),
    ("1", "NOP1 NOP4 NOP5 NOP6 NOP7 NOP8 NOP9 NOP10", Ok(())),
    ("0", "NOP1 NOP4 NOP5 NOP6 NOP7 NOP8 NOP9 NOP10", Err(E::EvalFalse)),
    ("100", "CLTV", Ok(())),
    ("101", "CLTV", Err(E::UnsatisfiedLocktime)),
    ("-1", "CLTV", Err(E::NegativeLocktime)),
    ("", "CLTV", Err(E::InvalidStackOperation)),
    ("0x06010000000000", "CLTV", Err(E::ScriptNum)),
    ("10", "CSV", Ok(())),
    ("11", "CSV", Err(E::UnsatisfiedLocktime)),
    ("-1", "CSV", Err(E::NegativeLocktime)),
    ("", "CSV", Err(E::InvalidStackOperation)),
    ("1", "0 IF 0xba ENDIF", Ok(())),
    ("1", "0xba", Err(E::BadOpcode)),
];

/// Fail even where they are not run (CVE-2010-5137): concatenation, bits, multiplication and their like.
const DISABLED: &[u8] = &[0x7e, 0x7f, 0x80, 0x81, 0x83, 0x84, 0x85, 0x86, 0x8d, 0x8e, 0x95, 0x96, 0x97, 0x98, 0x99];

fn legacy(script_sig: &[u8], script: &[u8]) -> Result<(), E> {
    let mut spend = Spend::of(script);
    spend.transaction.input[0].script_sig = ScriptBuf::from_bytes(script_sig.to_vec());
    spend.verify(ScriptFlags::CONSENSUS)
}

#[test]
fn every_opcode_on_both_sides() {
    let (mut passed, mut failed) = (BTreeSet::new(), BTreeSet::new());
    for (stack, script, expected) in ROWS {
        let (stack, code) = (asm(stack), asm(script));
        assert_eq!(legacy(&stack, &code), *expected, "{script}");
        let seen = if expected.is_ok() { &mut passed } else { &mut failed };
        seen.extend(opcodes(&code));
    }
    // Pushes of every size, whole and cut by one byte.
    for size in 1..=0x4b_u8 {
        let whole = [&[size][..], &vec![1; size.into()]].concat();
        assert_eq!(legacy(&[], &whole), Ok(()), "push of {size}");
        assert_eq!(legacy(&[], &[&[0x51][..], &whole[..usize::from(size)]].concat()), Err(E::BadOpcode), "{size}");
        passed.insert(size);
        failed.insert(size);
    }
    for number in 1..=16_u8 {
        assert_eq!(legacy(&[], &[0x50 + number, 1, number, 0x87]), Ok(()), "{number}");
        assert_eq!(legacy(&[], &[0x50 + number, 1, number + 1, 0x87]), Err(E::EvalFalse), "{number}");
        passed.insert(0x50 + number);
        failed.insert(0x50 + number);
    }
    for code in DISABLED {
        assert_eq!(legacy(&[0x51], &[0x00, 0x63, *code, 0x68]), Err(E::DisabledOpcode), "{code:02x}");
        assert_eq!(legacy(&[0x51], &[*code]), Err(E::DisabledOpcode), "{code:02x}");
        failed.insert(*code);
        passed.insert(*code);
    }
    // Unknown ones fail only where they are run.
    for code in 0xbb..=0xff_u8 {
        assert_eq!(legacy(&[0x51], &[0x00, 0x63, code, 0x68]), Ok(()), "{code:02x}");
        assert_eq!(legacy(&[0x51], &[code]), Err(E::BadOpcode), "{code:02x}");
        failed.insert(code);
        passed.insert(code);
    }
    // OP_VERIF and OP_VERNOTIF pass nowhere.
    passed.extend([0x65, 0x66]);
    let all: BTreeSet<u8> = (0..=255).collect();
    assert_eq!(all.difference(&passed).collect::<Vec<_>>(), Vec::<&u8>::new(), "never passed");
    assert_eq!(all.difference(&failed).collect::<Vec<_>>(), Vec::<&u8>::new(), "never failed");
}

/// Spends the only leaf of an output.
fn tapscript(script: &[u8], arguments: &[Vec<u8>], flags: ScriptFlags) -> Result<(), E> {
    let key = Keypair::from_seckey_slice(SECP256K1, &[3; 32]).unwrap();
    let leaf = TapNodeHash::from_script(Script::from_bytes(script), LeafVersion::TapScript);
    let internal = key.x_only_public_key().0;
    let (output, parity) = internal.tap_tweak(SECP256K1, Some(leaf));
    let mut spend = Spend::of(&[&[0x51, 32][..], &output.to_x_only_public_key().serialize()].concat());
    let control = [&[0xc0 | parity.to_u8()][..], &internal.serialize()].concat();
    let witness = [arguments, &[script.to_vec(), control]].concat();
    spend.transaction.input[0].witness = Witness::from_slice(&witness);
    spend.verify(flags)
}

/// BIP 342: which opcodes end a tapscript as a success, and what became of the others.
#[test]
fn every_opcode_of_a_tapscript() {
    let is_success =
        |code: u8| matches!(code, 80 | 98 | 126..=129 | 131..=134 | 137 | 138 | 141 | 142 | 149..=153 | 187..=254);
    assert_eq!((0..=255).filter(|code| is_success(*code)).count(), 87);
    for code in 0x4f..=0xff_u8 {
        // Behind a failure, before something that cannot be read, within a branch that is not taken.
        for script in [vec![0x6a, code], vec![code, 0x4e], vec![0x00, 0x63, code]] {
            let verdict = tapscript(&script, &[], ScriptFlags::CONSENSUS);
            assert_eq!(verdict.is_ok(), is_success(code), "{script:02x?}: {verdict:?}");
            if is_success(code) {
                assert_eq!(tapscript(&script, &[], ScriptFlags::STANDARD), Err(E::DiscourageOpSuccess), "{code:02x}");
            }
        }
    }
    // What is neither a success nor changed does as in older scripts; pushes and numbers are written alike.
    for (stack, script, expected) in ROWS {
        let script = [asm(stack), asm(script)].concat();
        let codes = opcodes(&script);
        let is_changed = |code: &u8| is_success(*code) || matches!(code, 0x63 | 0x64 | 0xac..=0xaf | 0xba);
        if codes.iter().any(is_changed) || matches!(expected, Err(E::BadOpcode)) {
            continue;
        }
        let verdict = tapscript(&script, &[], ScriptFlags::CONSENSUS);
        // A second element left is an error here.
        let may_leave_more = matches!(expected, Ok(()) | Err(E::EvalFalse));
        let is_as_before = verdict == *expected || (may_leave_more && verdict == Err(E::CleanStack));
        assert!(is_as_before, "{script:02x?}: {verdict:?}");
    }
    for code in [0xae, 0xaf] {
        assert_eq!(tapscript(&[0x00, 0x00, 0x00, code], &[], ScriptFlags::CONSENSUS), Err(E::TapscriptCheckMultisig));
    }
    let one = |script: &str, argument: &[u8]| tapscript(&asm(script), &[argument.to_vec()], ScriptFlags::CONSENSUS);
    for conditional in ["IF 1 ELSE 1 ENDIF", "NOTIF 1 ELSE 1 ENDIF"] {
        assert_eq!(one(conditional, &[1]), Ok(()));
        assert_eq!(one(conditional, &[]), Ok(()));
        for other in [&[2][..], &[0], &[1, 0], &[0x80]] {
            assert_eq!(one(conditional, other), Err(E::TapscriptMinimalIf));
        }
    }
    // Keys of a type to come: an empty signature is false, any other true, and each counts.
    assert_eq!(one("0x0107 CHECKSIG NOT", &[]), Ok(()));
    assert_eq!(one("0x0107 CHECKSIG", &[9]), Ok(()));
    assert_eq!(one("0x0107 CHECKSIGVERIFY 1", &[9]), Ok(()));
    assert_eq!(one("0x0107 CHECKSIGVERIFY 1", &[]), Err(E::CheckSigVerify));
    assert_eq!(one("5 0x0107 0xba 6 EQUAL", &[9]), Ok(()));
    assert_eq!(one("5 0x0107 0xba 5 EQUAL", &[]), Ok(()));
    assert_eq!(one("0x0107 0xba", &[9]), Err(E::InvalidStackOperation));
    assert_eq!(one("0x050000000001 0x0107 0xba", &[9]), Err(E::ScriptNum));
    assert_eq!(one("5 0 0xba", &[9]), Err(E::TapscriptEmptyPubkey));
}
