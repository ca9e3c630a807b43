//! What a signed or half signed input already holds (Core: `DataFromTransaction`).

use bitcoin::script::Instruction;
use bitcoin::{Script, ScriptBuf};

use super::digest::Version;
use super::{Data, Spend, key_id};
use crate::mempool::policy::output::{OutputType, classify};

/// Scripts and signatures of the input; all of it where it is valid as it is.
pub fn extract(spend: &Spend<'_>) -> Data {
    let Some(input) = spend.transaction.input.get(spend.index) else { return Data::default() };
    let mut data =
        Data { script_sig: input.script_sig.clone(), script_witness: input.witness.to_vec(), ..Data::default() };
    if spend.verify(&data.script_sig, &data.script_witness).is_ok() {
        data.complete = true;
        return data;
    }
    let mut stack = pushes(&data.script_sig);
    let mut witness = data.script_witness.clone();
    let mut script = spend.prevout.script_pubkey.clone();
    let mut version = Version::Base;
    if script.is_p2sh()
        && let Some(redeem) = stack.pop().filter(|redeem| !redeem.is_empty())
    {
        script = ScriptBuf::from_bytes(redeem);
        data.redeem_script = Some(script.clone());
    }
    if script.is_p2wsh()
        && let Some(last) = witness.pop().filter(|last| !last.is_empty())
    {
        script = ScriptBuf::from_bytes(last);
        data.witness_script = Some(script.clone());
        stack = witness;
        version = Version::WitnessV0;
    }
    if let OutputType::MultiSig { keys, .. } = classify(&script) {
        // Signatures come in the order of their keys.
        let mut keys = keys.into_iter();
        for signature in &stack {
            let mut left = keys.clone();
            if let Some(key) = left.find(|key| spend.is_signed_by(signature, key, &script, version)) {
                data.signatures.insert(key_id(key), (key.to_vec(), signature.clone()));
                keys = left;
            }
        }
    }
    data
}

/// What the script pushes, up to the first thing it does besides.
fn pushes(script: &Script) -> Vec<Vec<u8>> {
    let items = script.instructions().map_while(|instruction| match instruction {
        Ok(Instruction::PushBytes(bytes)) => Some(bytes.as_bytes().to_vec()),
        Ok(Instruction::Op(op)) => match op.to_u8() {
            number @ 0x51..=0x60 => Some(vec![number - 0x50]),
            0x4f => Some(vec![0x81]),
            _ => None,
        },
        Err(_) => None,
    });
    items.collect()
}
