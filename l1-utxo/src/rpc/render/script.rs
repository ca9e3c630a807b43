//! Scripts for people: disassembly, descriptor, address and type.

use bitcoin::script::Instruction;
use bitcoin::{Address, Script, XOnlyPublicKey};
use serde_json::{Map, Value};

use crate::mempool::policy::output::{OutputType, classify};
use crate::params::ADDRESS_NETWORK;

/// The address of an output script, if there is one.
pub fn address(script: &Script) -> Option<String> {
    Address::from_script(script, ADDRESS_NETWORK).ok().map(|address| address.to_string())
}

/// `scriptPubKey` as an object (Core: `ScriptToUniv`).
pub fn script_pubkey(script: &Script) -> Value {
    let mut object = Map::new();
    object.insert("asm".into(), asm(script, false).into());
    object.insert("desc".into(), descriptor(script).into());
    object.insert("hex".into(), script.to_hex_string().into());
    if let Some(address) = address(script) {
        object.insert("address".into(), address.into());
    }
    object.insert("type".into(), classify(script).name().into());
    Value::Object(object)
}

/// Core's `ScriptToAsmStr`. `decode_sighash` names the hash type of what looks like a signature.
pub fn asm(script: &Script, decode_sighash: bool) -> String {
    let decode_sighash = decode_sighash && !crate::chain::is_unspendable(script);
    let mut words = Vec::new();
    for instruction in script.instructions() {
        match instruction {
            Ok(Instruction::PushBytes(bytes)) => words.push(pushed(bytes.as_bytes(), decode_sighash)),
            Ok(Instruction::Op(op)) => words.push(opcode_name(op.to_u8())),
            Err(_) => {
                words.push("[error]".into());
                break;
            }
        }
    }
    words.join(" ")
}

fn pushed(bytes: &[u8], decode_sighash: bool) -> String {
    if bytes.len() <= 4 {
        return script_number(bytes).to_string();
    }
    if decode_sighash
        && let Ok(signature) = bitcoin::ecdsa::Signature::from_slice(bytes)
        && let Some((_, body)) = bytes.split_last()
    {
        let name = signature.sighash_type.to_string().replace("SIGHASH_", "");
        return format!("{}[{name}]", hex::encode(body));
    }
    hex::encode(bytes)
}

/// Little endian with a sign bit, at most four bytes.
fn script_number(bytes: &[u8]) -> i64 {
    let Some((last, rest)) = bytes.split_last() else {
        return 0;
    };
    let low = rest.iter().rev().fold(i64::from(last & 0x7f), |value, byte| value << 8 | i64::from(*byte));
    if last & 0x80 == 0 { low } else { -low }
}

/// The opcodes from 0x61 to 0xba, without `OP_`.
const OPCODES: &str = "NOP VER IF NOTIF VERIF VERNOTIF ELSE ENDIF VERIFY RETURN TOALTSTACK FROMALTSTACK 2DROP 2DUP 3DUP \
    2OVER 2ROT 2SWAP IFDUP DEPTH DROP DUP NIP OVER PICK ROLL ROT SWAP TUCK CAT SUBSTR LEFT RIGHT SIZE \
    INVERT AND OR XOR EQUAL EQUALVERIFY RESERVED1 RESERVED2 1ADD 1SUB 2MUL 2DIV NEGATE ABS NOT 0NOTEQUAL \
    ADD SUB MUL DIV MOD LSHIFT RSHIFT BOOLAND BOOLOR NUMEQUAL NUMEQUALVERIFY NUMNOTEQUAL LESSTHAN \
    GREATERTHAN LESSTHANOREQUAL GREATERTHANOREQUAL MIN MAX WITHIN RIPEMD160 SHA1 SHA256 HASH160 HASH256 \
    CODESEPARATOR CHECKSIG CHECKSIGVERIFY CHECKMULTISIG CHECKMULTISIGVERIFY NOP1 CHECKLOCKTIMEVERIFY \
    CHECKSEQUENCEVERIFY NOP4 NOP5 NOP6 NOP7 NOP8 NOP9 NOP10 CHECKSIGADD";

fn opcode_name(op: u8) -> String {
    match op {
        0x4f => "-1".into(),
        0x50 => "OP_RESERVED".into(),
        0x51..=0x60 => (op - 0x50).to_string(),
        0xff => "OP_INVALIDOPCODE".into(),
        _ => {
            let index = op.checked_sub(0x61).map(usize::from);
            let name = index.and_then(|index| OPCODES.split(' ').nth(index)).unwrap_or("UNKNOWN");
            format!("OP_{name}")
        }
    }
}

/// The descriptor that Core infers for an output whose keys it does not know, with its checksum.
pub fn descriptor(script: &Script) -> String {
    let body = match classify(script) {
        OutputType::WitnessV1Taproot(key) if XOnlyPublicKey::from_slice(key).is_ok() => {
            format!("rawtr({})", hex::encode(key))
        }
        OutputType::PubKey(key) if is_plain_key(key) => format!("pk({})", hex::encode(key)),
        OutputType::MultiSig { required, keys } if keys.iter().all(|key| is_plain_key(key)) => {
            let keys: Vec<String> = keys.iter().map(hex::encode).collect();
            format!("multi({required},{})", keys.join(","))
        }
        _ => match address(script) {
            Some(address) => format!("addr({address})"),
            None => format!("raw({})", script.to_hex_string()),
        },
    };
    let checksum = checksum(&body);
    format!("{body}#{checksum}")
}

/// Neither of the hybrid forms.
fn is_plain_key(key: &[u8]) -> bool {
    !matches!(key.first(), Some(6 | 7))
}

/// BIP 380's checksum; `body` holds only characters of descriptors.
fn checksum(body: &str) -> String {
    const INPUT: &str =
        "0123456789()[],'/*abcdefgh@:$%{}IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~ijklmnopqrstuvwxyzABCDEFGH`#\"\\ ";
    const OUTPUT: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let mut state = 1u64;
    let (mut classes, mut count) = (0u64, 0);
    for character in body.chars() {
        let position = INPUT.find(character).unwrap_or_default() as u64;
        state = polymod(state, position & 31);
        classes = classes * 3 + (position >> 5);
        count += 1;
        if count == 3 {
            state = polymod(state, classes);
            (classes, count) = (0, 0);
        }
    }
    if count > 0 {
        state = polymod(state, classes);
    }
    state = (0..8).fold(state, |state, _| polymod(state, 0)) ^ 1;
    (0..8).map(|index| char::from(OUTPUT[(state >> (5 * (7 - index)) & 31) as usize])).collect()
}

fn polymod(state: u64, value: u64) -> u64 {
    const GENERATOR: [u64; 5] = [0xf5_dee5_1989, 0xa9_fdca_3312, 0x1b_ab10_e32d, 0x37_06b1_677a, 0x64_4d62_6ffd];
    let top = state >> 35;
    let shifted = (state & 0x7_ffff_ffff) << 5 ^ value;
    (0..5).filter(|bit| top >> bit & 1 == 1).fold(shifted, |state, bit| state ^ GENERATOR[bit])
}

#[cfg(test)]
mod tests {
    use bitcoin::ScriptBuf;

    use super::*;

    #[test]
    fn checksums_are_those_of_bip_380() {
        assert_eq!(checksum("raw(deadbeef)"), "89f8spxm");
    }

    #[test]
    fn asm_reads_as_in_core() {
        let asm = |hex: &str| asm(&ScriptBuf::from_hex(hex).unwrap(), false);
        assert_eq!(asm("0014"), "0 [error]");
        assert_eq!(asm("4f516081"), "-1 1 16 OP_RIGHT");
        assert_eq!(
            asm("02ff8001ffb1b2b3ba"),
            "-255 -127 OP_CHECKLOCKTIMEVERIFY OP_CHECKSEQUENCEVERIFY OP_NOP4 OP_CHECKSIGADD"
        );
        assert_eq!(asm("6a0501020304059c"), "OP_RETURN 0102030405 OP_NUMEQUAL");
        // A signature of NONE|ANYONECANPAY, where signatures are looked for.
        let signature = "3006020101020101";
        let script = ScriptBuf::from_hex(&format!("09{signature}82")).unwrap();
        assert_eq!(super::asm(&script, true), format!("{signature}[NONE|ANYONECANPAY]"));
        assert_eq!(asm("ba61acff"), "OP_CHECKSIGADD OP_NOP OP_CHECKSIG OP_INVALIDOPCODE");
    }

    #[test]
    fn descriptors_are_inferred_as_core_does() {
        let describe = |hex: &str| descriptor(&ScriptBuf::from_hex(hex).unwrap());
        assert_eq!(describe("51024e73"), "addr(bcrt1pfeesnyr2tx)#".to_owned() + &checksum("addr(bcrt1pfeesnyr2tx)"));
        assert!(describe("6a").starts_with("raw(6a)#"));
    }
}
