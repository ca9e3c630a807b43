//! Opcodes that hash and check signatures.

use bitcoin::hashes::{Hash, hash160, ripemd160, sha1, sha256, sha256d};

use super::super::number;
use super::super::opcode::{MAX_PUBKEYS_PER_MULTISIG, op};
use super::super::sighash::{ScriptCode, legacy_sighash, witness_v0_sighash};
use super::super::signature::{check_pubkey_encoding, check_signature_encoding, verify_ecdsa};
use super::super::stack::Item;
use super::super::tapscript::check_schnorr;
use super::super::{ScriptError, ScriptFlags};
use super::{Interpreter, SigVersion};

impl<'s> Interpreter<'s, '_> {
    /// `OP_RIPEMD160` … `OP_HASH256`.
    pub(super) fn hash(&mut self, opcode: u8) -> Result<(), ScriptError> {
        let item = self.stack.pop()?;
        let preimage = item.bytes();
        let hash = match opcode {
            op::RIPEMD160 => Item::inline(ripemd160::Hash::hash(preimage).as_byte_array()),
            op::SHA1 => Item::inline(sha1::Hash::hash(preimage).as_byte_array()),
            op::SHA256 => Item::inline(sha256::Hash::hash(preimage).as_byte_array()),
            op::HASH160 => Item::inline(hash160::Hash::hash(preimage).as_byte_array()),
            op::HASH256 => Item::inline(sha256d::Hash::hash(preimage).as_byte_array()),
            _ => return Err(ScriptError::BadOpcode),
        };
        self.stack.push(hash);
        Ok(())
    }

    /// `OP_CHECKSIG` … `OP_CHECKMULTISIGVERIFY`, `OP_CHECKSIGADD`.
    pub(super) fn check_signatures(&mut self, opcode: u8) -> Result<(), ScriptError> {
        let (valid, verify_error) = match opcode {
            op::CHECKSIGADD => return self.check_sig_add(),
            op::CHECKSIG | op::CHECKSIGVERIFY => (self.check_sig_on_top()?, ScriptError::CheckSigVerify),
            _ => (self.check_multisig()?, ScriptError::CheckMultisigVerify),
        };
        match opcode {
            op::CHECKSIG | op::CHECKMULTISIG => self.stack.push_bool(valid),
            _ if !valid => return Err(verify_error),
            _ => {}
        }
        Ok(())
    }

    /// ( signature pubkey – )
    fn check_sig_on_top(&mut self) -> Result<bool, ScriptError> {
        let (signature, pubkey) = (*self.stack.peek(2)?, *self.stack.peek(1)?);
        let valid = self.check_sig(signature.bytes(), pubkey.bytes())?;
        self.stack.drop(2)?;
        Ok(valid)
    }

    /// ( signature number pubkey – number ), only in tapscript.
    fn check_sig_add(&mut self) -> Result<(), ScriptError> {
        if !matches!(self.version, SigVersion::Tapscript(_)) {
            return Err(ScriptError::BadOpcode);
        }
        let (signature, pubkey) = (*self.stack.peek(3)?, *self.stack.peek(1)?);
        let count = self.stack.number(2, self.requires_minimal())?;
        let valid = self.check_sig(signature.bytes(), pubkey.bytes())?;
        self.stack.drop(3)?;
        self.stack.push(number::encode(count + i64::from(valid)));
        Ok(())
    }

    fn check_sig(&mut self, signature: &[u8], pubkey: &[u8]) -> Result<bool, ScriptError> {
        if let SigVersion::Tapscript(tapscript) = &mut self.version {
            tapscript.check_pubkey(signature, pubkey, self.flags)?;
            if let (false, 32, Some(taproot)) = (signature.is_empty(), pubkey.len(), self.version.taproot()) {
                check_schnorr(self.spend, taproot, signature, pubkey)?;
            }
            return Ok(!signature.is_empty());
        }
        let script_code = self.script_code_without(&[signature])?;
        let valid = self.check_ecdsa(signature, pubkey, &script_code)?;
        if !valid && !signature.is_empty() && self.flags.contains(ScriptFlags::NULLFAIL) {
            return Err(ScriptError::SigNullFail);
        }
        Ok(valid)
    }

    /// The script from the last `OP_CODESEPARATOR` on; in legacy scripts without the signatures themselves.
    fn script_code_without(&self, signatures: &[&[u8]]) -> Result<ScriptCode<'s>, ScriptError> {
        let mut code = ScriptCode::new(&self.script[self.code_start..]);
        if matches!(self.version, SigVersion::Base) {
            for signature in signatures {
                let (without, found) = code.without(signature);
                if found && self.flags.contains(ScriptFlags::CONST_SCRIPTCODE) {
                    return Err(ScriptError::SigFindAndDelete);
                }
                code = without;
            }
        }
        Ok(code)
    }

    fn check_ecdsa(&mut self, signature: &[u8], pubkey: &[u8], code: &ScriptCode<'s>) -> Result<bool, ScriptError> {
        let witness = matches!(self.version, SigVersion::WitnessV0);
        check_signature_encoding(signature, self.flags)?;
        check_pubkey_encoding(pubkey, self.flags, witness)?;
        let (Some((&hash_type, der)), Some(spend)) = (signature.split_last(), self.spend) else { return Ok(false) };
        let sighash = if witness { witness_v0_sighash } else { legacy_sighash };
        let sighash = sighash(spend.cache, spend.input_index, code, hash_type, &mut self.midstates);
        Ok(verify_ecdsa(spend.cache.signatures(), der, pubkey, &sighash))
    }

    /// ( dummy [signature …] number_of_signatures [pubkey …] number_of_pubkeys – )
    fn check_multisig(&mut self) -> Result<bool, ScriptError> {
        if matches!(self.version, SigVersion::Tapscript(_)) {
            return Err(ScriptError::TapscriptCheckMultisig);
        }
        let keys = self.multisig_count(1, MAX_PUBKEYS_PER_MULTISIG, ScriptError::PubkeyCount)?;
        self.count_operations(keys)?;
        let keys = keys as usize;
        let signatures = self.multisig_count(keys + 2, keys as u32, ScriptError::SigCount)? as usize;
        let first_signature = keys + 3;
        self.stack.require(keys + signatures + 3)?;

        let valid = self.check_multisig_signatures(keys, signatures)?;

        let nullfail = !valid && self.flags.contains(ScriptFlags::NULLFAIL);
        for depth in first_signature..first_signature + signatures {
            if nullfail && !self.stack.peek(depth)?.bytes().is_empty() {
                return Err(ScriptError::SigNullFail);
            }
        }
        // The first release took one element too many; it is there for good, and BIP 147 asks for an empty one.
        let dummy = self.stack.peek(first_signature + signatures)?;
        if self.flags.contains(ScriptFlags::NULLDUMMY) && !dummy.bytes().is_empty() {
            return Err(ScriptError::SigNullDummy);
        }
        self.stack.drop(keys + signatures + 3)?;
        Ok(valid)
    }

    fn multisig_count(&self, depth: usize, maximum: u32, error: ScriptError) -> Result<u32, ScriptError> {
        let number = self.stack.number(depth, self.requires_minimal())?;
        u32::try_from(number).ok().filter(|count| *count <= maximum).ok_or(error)
    }

    /// Goes through the keys from the top; each signature must find its key before there are fewer keys than signatures.
    fn check_multisig_signatures(&mut self, keys: usize, signatures: usize) -> Result<bool, ScriptError> {
        let items = self.stack.items();
        let top = items.len();
        // Copies of at most 40 small elements, for the checks below borrow the interpreter.
        let pubkeys: Vec<Item<'s>> = items[top - 1 - keys..top - 1].iter().rev().copied().collect();
        let bottom = top - 2 - keys;
        let signatures: Vec<Item<'s>> = items[bottom - signatures..bottom].iter().rev().copied().collect();

        let bytes: Vec<&[u8]> = signatures.iter().map(Item::bytes).collect();
        let script_code = self.script_code_without(&bytes)?;
        let mut remaining = bytes.as_slice();
        for (used, pubkey) in pubkeys.iter().enumerate() {
            let Some((signature, rest)) = remaining.split_first() else { break };
            if remaining.len() > keys - used {
                return Ok(false);
            }
            if self.check_ecdsa(signature, pubkey.bytes(), &script_code)? {
                remaining = rest;
            }
        }
        Ok(remaining.is_empty())
    }
}
