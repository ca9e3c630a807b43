//! One spend for every error, and the rules that are easy to get wrong.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::opcodes::Opcode;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use secp256k1::{Keypair, Message, SECP256K1};

use super::sighash::{
    ScriptCode, TaprootSpend, branch_hash, leaf_hash, legacy_sighash, taproot_sighash, tweak_hash, witness_v0_sighash,
};
use super::*;

/// Numbers, `0x` raw bytes and opcodes without `OP_`.
fn asm(text: &str) -> Vec<u8> {
    let mut script = Vec::new();
    for word in text.split_ascii_whitespace() {
        match word {
            "CLTV" => script.push(op::CHECKLOCKTIMEVERIFY),
            "CSV" => script.push(op::CHECKSEQUENCEVERIFY),
            _ => match (word.parse::<i64>(), word.strip_prefix("0x")) {
                (Ok(number), _) => script.extend(bitcoin::script::Builder::new().push_int(number).into_bytes()),
                (_, Some(raw)) => script.extend(hex::decode(raw).unwrap()),
                _ => {
                    let known = |code: &u8| Opcode::from(*code).to_string() == format!("OP_{word}");
                    script.push((0x4c..=0xba).find(known).unwrap_or_else(|| panic!("opcode {word}")));
                }
            },
        }
    }
    script
}

fn push(data: &[u8]) -> Vec<u8> {
    let data = bitcoin::script::PushBytesBuf::try_from(data.to_vec()).unwrap();
    bitcoin::script::Builder::new().push_slice(data).into_bytes()
}

/// A transaction with one input in question, and the output that it spends.
#[derive(Clone)]
struct Spending {
    transaction: Transaction,
    prevout: TxOut,
}

impl Spending {
    fn new(script_pubkey: &[u8]) -> Self {
        let input = TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::new(),
            sequence: Sequence(10),
            witness: Witness::new(),
        };
        let output = TxOut { value: Amount::from_sat(900), script_pubkey: ScriptBuf::new() };
        Self {
            transaction: Transaction {
                version: Version::TWO,
                lock_time: LockTime::from_consensus(100),
                input: vec![input],
                output: vec![output],
            },
            prevout: TxOut {
                value: Amount::from_sat(1_000),
                script_pubkey: ScriptBuf::from_bytes(script_pubkey.to_vec()),
            },
        }
    }

    fn script_sig(mut self, script_sig: &[u8]) -> Self {
        self.transaction.input[0].script_sig = ScriptBuf::from_bytes(script_sig.to_vec());
        self
    }

    fn witness<T: AsRef<[u8]>>(mut self, witness: &[T]) -> Self {
        self.transaction.input[0].witness = Witness::from_slice(witness);
        self
    }

    fn cache(&self) -> TransactionCache<'_> {
        TransactionCache::new(&self.transaction, vec![&self.prevout])
    }

    fn verify(&self, flags: ScriptFlags) -> Result<(), ScriptError> {
        verify_input(&self.cache(), 0, flags)
    }

    fn legacy_signature(&self, script_code: &[u8], hash_type: u8) -> Vec<u8> {
        let hash = legacy_sighash(&self.cache(), 0, &ScriptCode::new(script_code), hash_type, &mut Default::default());
        ecdsa(hash, hash_type)
    }

    fn v0_signature(&self, script_code: &[u8], hash_type: u8) -> Vec<u8> {
        let hash =
            witness_v0_sighash(&self.cache(), 0, &ScriptCode::new(script_code), hash_type, &mut Default::default());
        ecdsa(hash, hash_type)
    }
}

fn key() -> Keypair {
    Keypair::from_seckey_slice(SECP256K1, &[3; 32]).unwrap()
}

fn pubkey() -> Vec<u8> {
    key().public_key().serialize().to_vec()
}

fn ecdsa(hash: [u8; 32], hash_type: u8) -> Vec<u8> {
    let mut signature = SECP256K1.sign_ecdsa(&Message::from_digest(hash), &key().secret_key()).serialize_der().to_vec();
    signature.push(hash_type);
    signature
}

fn run(script_sig: &str, script_pubkey: &str, flags: ScriptFlags) -> Result<(), ScriptError> {
    Spending::new(&asm(script_pubkey)).script_sig(&asm(script_sig)).verify(flags)
}

#[test]
fn errors_of_plain_scripts() {
    use ScriptError as E;
    use ScriptFlags as F;
    let table: &[(&str, &str, F, E)] = &[
        ("", "", F::NONE, E::EvalFalse),
        ("0", "NOP", F::NONE, E::EvalFalse),
        ("0x0180", "NOP", F::NONE, E::EvalFalse),
        ("1", "RETURN", F::NONE, E::OpReturn),
        ("0x050000000001", "1ADD", F::NONE, E::ScriptNum),
        ("0x020100", "1ADD", F::MINIMALDATA, E::ScriptNum),
        ("2 0 0", "CHECKMULTISIG", F::NULLDUMMY, E::SigNullDummy),
        ("0 0 1 0", "CHECKMULTISIG", F::NONE, E::SigCount),
        ("0 0 -1", "CHECKMULTISIG", F::NONE, E::PubkeyCount),
        ("0", "VERIFY", F::NONE, E::Verify),
        ("1 2", "EQUALVERIFY 1", F::NONE, E::EqualVerify),
        ("1 2", "NUMEQUALVERIFY 1", F::NONE, E::NumEqualVerify),
        ("0 1", "CHECKSIGVERIFY 1", F::NONE, E::CheckSigVerify),
        ("0 0 1 1 1", "CHECKMULTISIGVERIFY 1", F::NONE, E::CheckMultisigVerify),
        ("1", "RESERVED", F::NONE, E::BadOpcode),
        ("1", "0xba", F::NONE, E::BadOpcode),
        ("1", "0x0501", F::NONE, E::BadOpcode),
        ("1", "0 IF 0x65 ENDIF", F::NONE, E::BadOpcode),
        ("1", "0 IF 0x7e ENDIF", F::NONE, E::DisabledOpcode),
        ("1", "ADD", F::NONE, E::InvalidStackOperation),
        ("", "IF 1 ENDIF", F::NONE, E::InvalidStackOperation),
        ("1", "1 PICK", F::NONE, E::InvalidStackOperation),
        ("1", "FROMALTSTACK", F::NONE, E::InvalidAltstackOperation),
        ("1", "IF 1", F::NONE, E::UnbalancedConditional),
        ("1", "ELSE", F::NONE, E::UnbalancedConditional),
        ("1", "ENDIF", F::NONE, E::UnbalancedConditional),
        ("1 IF", "ENDIF 1", F::NONE, E::UnbalancedConditional),
        ("-1", "CLTV", F::CHECKLOCKTIMEVERIFY, E::NegativeLocktime),
        ("101", "CLTV", F::CHECKLOCKTIMEVERIFY, E::UnsatisfiedLocktime),
        ("500000000", "CLTV", F::CHECKLOCKTIMEVERIFY, E::UnsatisfiedLocktime),
        ("-1", "CSV", F::CHECKSEQUENCEVERIFY, E::NegativeLocktime),
        ("11", "CSV", F::CHECKSEQUENCEVERIFY, E::UnsatisfiedLocktime),
        ("4194305", "CSV", F::CHECKSEQUENCEVERIFY, E::UnsatisfiedLocktime),
        ("0x0101", "NOP", F::MINIMALDATA, E::MinimalData),
        ("NOP 1", "NOP", F::SIGPUSHONLY, E::SigPushOnly),
        ("1", "NOP1", F::DISCOURAGE_UPGRADABLE_NOPS, E::DiscourageUpgradableNops),
        ("1 1", "NOP", F::STANDARD, E::CleanStack),
        ("1", "0 IF CODESEPARATOR ENDIF", F::CONST_SCRIPTCODE, E::OpCodeSeparator),
        ("0 0x0107", "CHECKSIG 0x00 DROP NOT", F::CONST_SCRIPTCODE, E::SigFindAndDelete),
    ];
    for (script_sig, script_pubkey, flags, error) in table {
        assert_eq!(run(script_sig, script_pubkey, *flags), Err(*error), "{script_sig} | {script_pubkey}");
    }
}

#[test]
fn what_is_off_without_its_flag() {
    for (script_sig, script_pubkey) in [
        ("101", "CLTV"),
        ("11", "CSV"),
        ("0x020100", "1ADD"),
        ("0x4c0101", "NOP"),
        ("NOP 1", "NOP10"),
        ("1 1", "NOP"),
        ("2 0 0", "CHECKMULTISIG"),
        ("1", "0 IF CODESEPARATOR ENDIF"),
        ("2", "IF 1 ENDIF"),
    ] {
        assert_eq!(run(script_sig, script_pubkey, ScriptFlags::NONE), Ok(()), "{script_sig} | {script_pubkey}");
    }
}

#[test]
fn lock_times() {
    let flags = ScriptFlags::CHECKLOCKTIMEVERIFY | ScriptFlags::CHECKSEQUENCEVERIFY;
    assert_eq!(run("100", "CLTV", flags), Ok(()));
    assert_eq!(run("10", "CSV", flags), Ok(()));
    // Bit 31 switches the opcode off, and takes five bytes.
    assert_eq!(run("2147483648", "CSV", flags), Ok(()));
    let mut spend = Spending::new(&asm("100 CLTV"));
    spend.transaction.input[0].sequence = Sequence::MAX;
    assert_eq!(spend.verify(flags), Err(ScriptError::UnsatisfiedLocktime));
    let mut spend = Spending::new(&asm("5 CSV"));
    spend.transaction.version = Version::ONE;
    assert_eq!(spend.verify(flags), Err(ScriptError::UnsatisfiedLocktime));
    spend.transaction.version = Version(-1);
    assert_eq!(spend.verify(flags), Ok(()));
    spend.transaction.input[0].sequence = Sequence(1 << 31 | 10);
    assert_eq!(spend.verify(flags), Err(ScriptError::UnsatisfiedLocktime));
}

#[test]
fn limits() {
    let bare = |script: Vec<u8>| Spending::new(&script).verify(ScriptFlags::NONE);
    let repeat = |opcode: u8, count: usize| [&[0x51][..], &vec![opcode; count]].concat();
    assert_eq!(bare(repeat(op::NOP, 201)), Ok(()));
    assert_eq!(bare(repeat(op::NOP, 202)), Err(ScriptError::OpCount));
    assert_eq!(bare(repeat(0x51, 999)), Ok(()));
    assert_eq!(bare(repeat(0x51, 1_000)), Err(ScriptError::StackSize));
    let element = |size: usize| [push(&vec![1; size]), vec![op::DROP, 0x51]].concat();
    assert_eq!(bare(element(520)), Ok(()));
    assert_eq!(bare(element(521)), Err(ScriptError::PushSize));
    let script = |size: usize| [push(&[1; 520]).repeat(size / 523), vec![0x51; size % 523]].concat();
    assert_eq!(bare(script(10_000)), Ok(()));
    assert_eq!(bare(script(10_001)), Err(ScriptError::ScriptSize));
    let keys = |count: u8| [&[0, 0][..], &vec![0; count.into()], &[1, count, op::CHECKMULTISIG]].concat();
    assert_eq!(bare(keys(20)), Ok(()));
    assert_eq!(bare(keys(21)), Err(ScriptError::PubkeyCount));
}

#[test]
fn legacy_signatures() {
    use ScriptFlags as F;
    let lock = [push(&pubkey()), vec![op::CHECKSIG]].concat();
    let spend = Spending::new(&lock);
    let with = |signature: &[u8], flags: F| spend.clone().script_sig(&push(signature)).verify(flags);
    let good = spend.legacy_signature(&lock, 0x01);
    assert_eq!(with(&good, F::STANDARD), Ok(()));
    assert_eq!(with(&spend.legacy_signature(&lock, 0x04), F::CONSENSUS), Ok(()));
    assert_eq!(with(&spend.legacy_signature(&lock, 0x04), F::STANDARD), Err(ScriptError::SigHashtype));
    assert_eq!(with(&[&good[..], &[1]].concat(), F::CONSENSUS), Err(ScriptError::SigDer));
    let not = [lock.as_slice(), &[op::NOT]].concat();
    let wrong = Spending::new(&not).script_sig(&push(&good));
    assert_eq!(wrong.verify(F::CONSENSUS), Ok(()));
    assert_eq!(wrong.verify(F::STANDARD), Err(ScriptError::SigNullFail));
    let hybrid =
        [push(&[&[6][..], &key().public_key().serialize_uncompressed()[1..]].concat()), vec![op::CHECKSIG]].concat();
    let spend = Spending::new(&hybrid);
    let spend = spend.clone().script_sig(&push(&spend.legacy_signature(&hybrid, 0x01)));
    assert_eq!(spend.verify(F::STANDARD), Err(ScriptError::PubkeyType));
}

#[test]
fn a_multisig_that_cannot_succeed_looks_at_no_further_signature() {
    let lock = [asm("2"), push(&pubkey()).repeat(2), asm("2 CHECKMULTISIG NOT")].concat();
    let spend = Spending::new(&lock);
    let other = ecdsa([1; 32], 0x01);
    let bad_der_below = [asm("0"), push(&[1; 9]), push(&other)].concat();
    assert_eq!(spend.clone().script_sig(&bad_der_below).verify(ScriptFlags::CONSENSUS), Ok(()));
    let bad_der_on_top = [asm("0"), push(&other), push(&[1; 9])].concat();
    assert_eq!(spend.script_sig(&bad_der_on_top).verify(ScriptFlags::CONSENSUS), Err(ScriptError::SigDer));
}

#[test]
fn the_keys_of_a_multisig_count_as_operations() {
    let with = |nops: usize| {
        let lock = [asm("0 0"), vec![0x51; 20], asm("20 CHECKMULTISIG"), vec![op::NOP; nops]].concat();
        Spending::new(&lock).verify(ScriptFlags::CONSENSUS)
    };
    assert_eq!(with(180), Ok(()));
    assert_eq!(with(181), Err(ScriptError::OpCount));
}

#[test]
fn the_other_stack_counts() {
    let with = |aside: usize| {
        let lock = [[0x51, op::TOALTSTACK].repeat(aside), vec![0x51; 900]].concat();
        Spending::new(&lock).verify(ScriptFlags::CONSENSUS)
    };
    assert_eq!(with(100), Ok(()));
    assert_eq!(with(101), Err(ScriptError::StackSize));
}

#[test]
fn a_high_s_is_only_against_policy() {
    let lock = [push(&pubkey()), vec![op::CHECKSIG]].concat();
    let spend = Spending::new(&lock);
    let low = spend.legacy_signature(&lock, 0x01);
    let s = low.len() - 33;
    let mut negated = [0; 32];
    let mut borrow = 0;
    for index in (0..32).rev() {
        let digit = i32::from(secp256k1::constants::CURVE_ORDER[index]) - i32::from(low[s + index]) - borrow;
        borrow = i32::from(digit < 0);
        negated[index] = digit.rem_euclid(256) as u8;
    }
    // A high S has its highest bit set, so it takes a zero before it.
    let high = [&[0x30, low[1] + 1][..], &low[2..s - 1], &[33, 0], &negated, &[1]].concat();
    let spend = spend.script_sig(&push(&high));
    assert_eq!(spend.verify(ScriptFlags::CONSENSUS), Ok(()));
    assert_eq!(spend.verify(ScriptFlags::STANDARD), Err(ScriptError::SigHighS));
}

#[test]
fn single_without_an_output_signs_the_number_one() {
    let lock = [push(&pubkey()), vec![op::CHECKSIG]].concat();
    let mut spend = Spending::new(&lock);
    spend.transaction.output.clear();
    let mut one = [0; 32];
    one[0] = 1;
    assert_eq!(spend.script_sig(&push(&ecdsa(one, 0x03))).verify(ScriptFlags::CONSENSUS), Ok(()));
}

#[test]
fn script_hashes() {
    use ScriptFlags as F;
    let redeem = asm("1ADD 3 EQUAL");
    let lock = Script::from_bytes(&redeem).to_p2sh();
    let with = |script_sig: Vec<u8>, flags: F| Spending::new(lock.as_bytes()).script_sig(&script_sig).verify(flags);
    assert_eq!(with([asm("2"), push(&redeem)].concat(), F::STANDARD), Ok(()));
    assert_eq!(with([asm("1"), push(&redeem)].concat(), F::P2SH), Err(ScriptError::EvalFalse));
    assert_eq!(with([asm("1"), push(&redeem)].concat(), F::NONE), Ok(()));
    assert_eq!(with([asm("NOP 2"), push(&redeem)].concat(), F::P2SH), Err(ScriptError::SigPushOnly));
    assert_eq!(with([asm("1 2"), push(&redeem)].concat(), F::STANDARD), Err(ScriptError::CleanStack));
    assert_eq!(with(vec![], F::P2SH), Err(ScriptError::InvalidStackOperation));
}

#[test]
fn errors_of_witness_programs() {
    use ScriptError as E;
    use ScriptFlags as F;
    let script_hash = |script: &[u8]| [&[0, 32][..], sha256::Hash::hash(script).as_byte_array()].concat();
    let v0 = |script: &[u8], arguments: &[Vec<u8>], flags: F| {
        let witness = [arguments, &[script.to_vec()]].concat();
        Spending::new(&script_hash(script)).witness(&witness).verify(flags)
    };
    assert_eq!(v0(&[0x51], &[], F::STANDARD), Ok(()));
    assert_eq!(v0(&[0x51, 0x51], &[], F::CONSENSUS), Err(E::CleanStack));
    assert_eq!(v0(&[0x00], &[], F::CONSENSUS), Err(E::EvalFalse));
    assert_eq!(v0(&[0x75, 0x51], &[vec![1; 521]], F::CONSENSUS), Err(E::PushSize));
    assert_eq!(v0(&asm("IF 1 ENDIF"), &[vec![2]], F::STANDARD), Err(E::MinimalIf));
    assert_eq!(v0(&asm("IF 1 ENDIF"), &[vec![2]], F::CONSENSUS), Ok(()));
    let empty: &[Vec<u8>] = &[];
    let program = |script: &[u8], witness: &[Vec<u8>], flags: F| Spending::new(script).witness(witness).verify(flags);
    assert_eq!(program(&script_hash(&[0x51]), empty, F::CONSENSUS), Err(E::WitnessProgramWitnessEmpty));
    assert_eq!(program(&script_hash(&[0x51]), &[vec![0x52]], F::CONSENSUS), Err(E::WitnessProgramMismatch));
    assert_eq!(program(&[&[0, 20][..], &[7; 20]].concat(), &[vec![1]], F::CONSENSUS), Err(E::WitnessProgramMismatch));
    assert_eq!(
        program(&[&[0, 21][..], &[7; 21]].concat(), &[vec![1]], F::CONSENSUS),
        Err(E::WitnessProgramWrongLength)
    );
    assert_eq!(program(&[&[0, 20][..], &[0; 20]].concat(), &[vec![1]], F::CONSENSUS), Err(E::EvalFalse));
    assert_eq!(program(&[0x51], &[vec![1]], F::CONSENSUS), Err(E::WitnessUnexpected));
    assert_eq!(program(&[0x52, 2, 1, 1], &[vec![1]], F::CONSENSUS), Ok(()));
    assert_eq!(program(&[0x52, 2, 1, 1], &[vec![1]], F::STANDARD), Err(E::DiscourageUpgradableWitnessProgram));
    assert_eq!(program(&[0x51, 2, 0x4e, 0x73], empty, F::STANDARD), Ok(()), "pay-to-anchor");
    let filled = Spending::new(&script_hash(&[0x51])).witness(&[[0x51]]).script_sig(&[0x51]);
    assert_eq!(filled.verify(F::CONSENSUS), Err(E::WitnessMalleated));
    let nested = Script::from_bytes(&script_hash(&[0x51])).to_p2sh();
    let nested = |script_sig: &[u8]| Spending::new(nested.as_bytes()).witness(&[[0x51]]).script_sig(script_sig);
    assert_eq!(nested(&push(&script_hash(&[0x51]))).verify(F::STANDARD), Ok(()));
    let twice = [&[0x51][..], &push(&script_hash(&[0x51]))].concat();
    assert_eq!(nested(&twice).verify(F::CONSENSUS), Err(E::WitnessMalleatedP2sh));
}

#[test]
fn only_compressed_keys_in_v0() {
    let uncompressed = key().public_key().serialize_uncompressed();
    let script = [push(&uncompressed), vec![op::CHECKSIG]].concat();
    let spend = Spending::new(&[&[0, 32][..], sha256::Hash::hash(&script).as_byte_array()].concat());
    let signature = spend.v0_signature(&script, 0x01);
    let spend = spend.witness(&[signature, script]);
    assert_eq!(spend.verify(ScriptFlags::CONSENSUS), Ok(()));
    assert_eq!(spend.verify(ScriptFlags::STANDARD), Err(ScriptError::WitnessPubkeyType));
}

/// A taproot output of one leaf beside one other node, and the witness for the leaf.
fn taproot(script: &[u8], arguments: &[Vec<u8>], leaf_version: u8) -> Spending {
    let internal = key().x_only_public_key().0;
    let sibling = [9; 32];
    let root = branch_hash(&leaf_hash(leaf_version, script), &sibling);
    let tweak = secp256k1::Scalar::from_be_bytes(tweak_hash(&internal.serialize(), &root)).unwrap();
    let (output_key, parity) = internal.add_tweak(SECP256K1, &tweak).unwrap();
    let control = [&[leaf_version | parity.to_u8()][..], &internal.serialize(), &sibling].concat();
    let witness = [arguments, &[script.to_vec(), control]].concat();
    Spending::new(&[&[0x51, 32][..], &output_key.serialize()].concat()).witness(&witness)
}

#[test]
fn errors_of_tapscripts() {
    use ScriptError as E;
    use ScriptFlags as F;
    let run = |script: &str, arguments: &[Vec<u8>], flags: F| taproot(&asm(script), arguments, 0xc0).verify(flags);
    let consensus = |script: &str, arguments: &[Vec<u8>]| run(script, arguments, F::CONSENSUS);
    let x_only = format!("0x20{}", key().x_only_public_key().0);
    assert_eq!(run("1", &[], F::STANDARD), Ok(()));
    assert_eq!(consensus("1 1", &[]), Err(E::CleanStack));
    assert_eq!(consensus("IF 1 ENDIF", &[vec![2]]), Err(E::TapscriptMinimalIf));
    assert_eq!(consensus("0 0 0 CHECKMULTISIG", &[]), Err(E::TapscriptCheckMultisig));
    assert_eq!(consensus("1 0 CHECKSIG", &[]), Err(E::TapscriptEmptyPubkey));
    assert_eq!(consensus("0 0 CHECKSIG", &[]), Err(E::TapscriptEmptyPubkey));
    assert_eq!(consensus("1 2 CHECKSIG", &[]), Ok(()));
    assert_eq!(run("1 2 CHECKSIG", &[], F::STANDARD), Err(E::DiscourageUpgradablePubkeyType));
    assert_eq!(consensus(&format!("{x_only} CHECKSIG NOT"), &[vec![]]), Ok(()));
    assert_eq!(consensus(&format!("{x_only} CHECKSIG"), &[vec![1; 63]]), Err(E::SchnorrSigSize));
    assert_eq!(consensus(&format!("{x_only} CHECKSIG"), &[vec![0; 65]]), Err(E::SchnorrSigHashtype));
    assert_eq!(consensus(&format!("{x_only} CHECKSIG"), &[vec![4; 65]]), Err(E::SchnorrSigHashtype));
    assert_eq!(consensus(&format!("{x_only} CHECKSIG"), &[vec![1; 64]]), Err(E::SchnorrSig));
    // An element above 520 bytes: 1 + 3 + 700 + … bytes of witness pay for 16 checks, not for 17.
    let checks = |count: usize| format!("DROP {} 1", "1 2 CHECKSIG DROP ".repeat(count));
    assert_eq!(consensus(&checks(3), &[vec![7; 40]]), Ok(()));
    assert_eq!(consensus(&checks(4), &[vec![7; 40]]), Err(E::TapscriptValidationWeight));
    assert_eq!(consensus("0x50", &[]), Ok(()));
    assert_eq!(consensus("0x50", &vec![vec![7; 521]; 1_001]), Ok(()), "success before any limit");
    assert_eq!(consensus("0x0501", &[]), Err(E::BadOpcode));
    assert_eq!(consensus("0x50 0x0501", &[]), Ok(()), "success before what cannot be read");
    assert_eq!(run("0x50", &[], F::STANDARD), Err(E::DiscourageOpSuccess));
    assert_eq!(consensus("1", &vec![vec![]; 1_001]), Err(E::StackSize));
    assert_eq!(consensus("DROP 1", &[vec![7; 521]]), Err(E::PushSize));
    assert_eq!(taproot(&[0x00], &[], 0xc2).verify(F::CONSENSUS), Ok(()), "a leaf version to come");
    assert_eq!(taproot(&[0x00], &[], 0xc2).verify(F::STANDARD), Err(E::DiscourageUpgradableTaprootVersion));
}

#[test]
fn errors_of_control_blocks() {
    let spend = taproot(&[0x51], &[], 0xc0);
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut witness = spend.transaction.input[0].witness.to_vec();
        change(witness.last_mut().unwrap());
        spend.clone().witness(&witness).verify(ScriptFlags::CONSENSUS)
    };
    assert_eq!(changed(|_| {}), Ok(()));
    assert_eq!(changed(|control| control[0] ^= 1), Err(ScriptError::WitnessProgramMismatch), "the parity");
    assert_eq!(changed(|control| control[40] ^= 1), Err(ScriptError::WitnessProgramMismatch));
    assert_eq!(changed(|control| control[0] = 0xc2), Err(ScriptError::WitnessProgramMismatch));
    assert_eq!(changed(Vec::clear), Err(ScriptError::TaprootWrongControlSize));
    assert_eq!(changed(|control| control.truncate(32)), Err(ScriptError::TaprootWrongControlSize));
    assert_eq!(changed(|control| control.push(0)), Err(ScriptError::TaprootWrongControlSize));
    assert_eq!(changed(|control| control.resize(33 + 32 * 128, 0)), Err(ScriptError::WitnessProgramMismatch));
    assert_eq!(changed(|control| control.resize(33 + 32 * 129, 0)), Err(ScriptError::TaprootWrongControlSize));
}

#[test]
fn a_taproot_key_signs_with_and_without_annex() {
    let keypair = key();
    let lock = [&[0x51, 32][..], &keypair.x_only_public_key().0.serialize()].concat();
    let spend = Spending::new(&lock);
    let annex = vec![0x50, 1, 2];
    let sign = |annex: Option<&[u8]>| {
        let taproot = TaprootSpend::new(annex.map(super::sighash::annex_hash));
        let hash = taproot_sighash(&spend.cache(), 0, &taproot, 0).unwrap();
        SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(hash), &keypair).serialize().to_vec()
    };
    let (plain, annexed) = (sign(None), sign(Some(&annex)));
    let with = |witness: &[Vec<u8>], flags: ScriptFlags| spend.clone().witness(witness).verify(flags);
    assert_eq!(with(std::slice::from_ref(&plain), ScriptFlags::STANDARD), Ok(()));
    assert_eq!(with(&[annexed.clone(), annex.clone()], ScriptFlags::CONSENSUS), Ok(()));
    assert_eq!(with(&[plain.clone(), annex], ScriptFlags::CONSENSUS), Err(ScriptError::SchnorrSig));
    assert_eq!(with(std::slice::from_ref(&annexed), ScriptFlags::CONSENSUS), Err(ScriptError::SchnorrSig));
    assert_eq!(with(&[[&plain[..], &[0]].concat()], ScriptFlags::CONSENSUS), Err(ScriptError::SchnorrSigHashtype));
    assert_eq!(with(&[vec![]], ScriptFlags::CONSENSUS), Err(ScriptError::SchnorrSigSize));
    let none: &[Vec<u8>] = &[];
    assert_eq!(with(none, ScriptFlags::CONSENSUS), Err(ScriptError::WitnessProgramWitnessEmpty));
    assert_eq!(with(none, ScriptFlags::CONSENSUS.without(ScriptFlags::TAPROOT)), Ok(()));
}

#[test]
fn a_signature_cache_never_changes_a_verdict() {
    let lock = [push(&pubkey()), vec![op::CHECKSIG]].concat();
    let spend = Spending::new(&lock);
    let signature = spend.legacy_signature(&lock, 0x01);
    let signatures = SignatureCache::new(1 << 16, [1; 32]);
    let good = spend.clone().script_sig(&push(&signature));
    for _ in 0..2 {
        assert_eq!(verify_input(&good.cache().with_signature_cache(&signatures), 0, ScriptFlags::STANDARD), Ok(()));
    }
    let mut other = good;
    other.transaction.output[0].value = Amount::from_sat(1);
    let verdict = verify_input(&other.cache().with_signature_cache(&signatures), 0, ScriptFlags::CONSENSUS);
    assert_eq!(verdict, Err(ScriptError::EvalFalse));
}

#[test]
fn redeem_scripts_are_what_is_left_on_top() {
    assert_eq!(redeem_script(&asm("1 0x020304")), Ok(Some(vec![3, 4])));
    assert_eq!(redeem_script(&asm("5")), Ok(Some(vec![5])));
    assert_eq!(redeem_script(&[]), Ok(None));
    assert_eq!(redeem_script(&[0x50]), Err(ScriptError::BadOpcode));
    assert_eq!(redeem_script(&[0x02, 0x01]), Err(ScriptError::BadOpcode));
}
