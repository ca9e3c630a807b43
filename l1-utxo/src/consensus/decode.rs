//! Reading transactions and blocks from bytes exactly as Bitcoin Core does (`primitives/transaction.h`, `serialize.h`).
//!
//! The crate `bitcoin` refuses what Core reads: a transaction without inputs and outputs, scripts above 4 MB. Such things
//! break rules, but a peer or a caller must hear which.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut,
    Txid, Witness,
};

/// The largest number that counts or measures anything (Core: `MAX_SIZE`).
const MAX_SIZE: u64 = 0x0200_0000;
/// Elements for which room is made before they are read: what a count promises need not come.
const MAX_RESERVED: usize = 4_096;
/// Marks a transaction that carries witnesses.
const WITNESS_FLAG: u8 = 1;

/// Why bytes are no transaction or block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("ends too early")]
    Truncated,
    /// A count is not in its shortest form.
    #[error("a count is not in its shortest form")]
    NonCanonicalSize,
    /// A count is above 0x02000000.
    #[error("a count is too large")]
    SizeTooLarge,
    /// There is the mark for witnesses, but no input has one.
    #[error("superfluous witness record")]
    SuperfluousWitness,
    /// A mark other than the one for witnesses.
    #[error("unknown transaction optional data")]
    UnknownFlag,
    /// Bytes are left over.
    #[error("bytes are left over")]
    TrailingBytes,
}

/// Whether a transaction may carry witnesses; without them no inputs means no inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// BIP 144.
    Witness,
    /// As before it.
    Legacy,
}

/// A transaction, and nothing after it.
pub fn decode_transaction(bytes: &[u8], form: Form) -> Result<Transaction, DecodeError> {
    let mut reader = Reader(bytes);
    let transaction = reader.transaction(form)?;
    if reader.0.is_empty() { Ok(transaction) } else { Err(DecodeError::TrailingBytes) }
}

/// A block at the beginning of the bytes, and how many it takes. Core does not look at what follows one.
pub fn decode_block(bytes: &[u8]) -> Result<(Block, usize), DecodeError> {
    let mut reader = Reader(bytes);
    let header = reader.header()?;
    let txdata = reader.list(|reader| reader.transaction(Form::Witness))?;
    Ok((Block { header, txdata }, bytes.len() - reader.0.len()))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Core: `ReadCompactSize`.
    fn size(&mut self) -> Result<usize, DecodeError> {
        let [first] = self.array()?;
        let (size, least) = match first {
            0xfd => (u64::from(u16::from_le_bytes(self.array()?)), 0xfd),
            0xfe => (u64::from(self.u32()?), 0x1_0000),
            0xff => (u64::from_le_bytes(self.array()?), 0x1_0000_0000),
            small => (u64::from(small), 0),
        };
        if size < least {
            return Err(DecodeError::NonCanonicalSize);
        }
        if size > MAX_SIZE {
            return Err(DecodeError::SizeTooLarge);
        }
        Ok(size as usize)
    }

    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Result<T, DecodeError>) -> Result<Vec<T>, DecodeError> {
        let count = self.size()?;
        let mut list = Vec::with_capacity(count.min(MAX_RESERVED));
        for _ in 0..count {
            list.push(read(self)?);
        }
        Ok(list)
    }

    fn blob(&mut self) -> Result<&'a [u8], DecodeError> {
        let size = self.size()?;
        self.bytes(size)
    }

    fn script(&mut self) -> Result<ScriptBuf, DecodeError> {
        Ok(ScriptBuf::from_bytes(self.blob()?.to_vec()))
    }

    fn header(&mut self) -> Result<Header, DecodeError> {
        Ok(Header {
            version: BlockVersion::from_consensus(i32::from_le_bytes(self.array()?)),
            prev_blockhash: BlockHash::from_byte_array(self.array()?),
            merkle_root: TxMerkleNode::from_byte_array(self.array()?),
            time: self.u32()?,
            bits: CompactTarget::from_consensus(self.u32()?),
            nonce: self.u32()?,
        })
    }

    /// Core: `UnserializeTransaction`.
    fn transaction(&mut self, form: Form) -> Result<Transaction, DecodeError> {
        let version = Version(i32::from_le_bytes(self.array()?));
        let mut input = self.list(Self::input)?;
        let mut output = Vec::new();
        let mut flags = 0;
        if input.is_empty() && form == Form::Witness {
            // No inputs, or the mark of witnesses. Without a flag nothing more comes but the lock time.
            [flags] = self.array()?;
            if flags != 0 {
                input = self.list(Self::input)?;
                output = self.list(Self::output)?;
            }
        } else {
            output = self.list(Self::output)?;
        }
        if flags & WITNESS_FLAG != 0 {
            for input in &mut input {
                input.witness = self.witness()?;
            }
            if input.iter().all(|input| input.witness.is_empty()) {
                return Err(DecodeError::SuperfluousWitness);
            }
        }
        if flags & !WITNESS_FLAG != 0 {
            return Err(DecodeError::UnknownFlag);
        }
        Ok(Transaction { version, input, output, lock_time: LockTime::from_consensus(self.u32()?) })
    }

    fn input(&mut self) -> Result<TxIn, DecodeError> {
        let previous_output = OutPoint { txid: Txid::from_byte_array(self.array()?), vout: self.u32()? };
        let script_sig = self.script()?;
        Ok(TxIn { previous_output, script_sig, sequence: Sequence(self.u32()?), witness: Witness::new() })
    }

    fn output(&mut self) -> Result<TxOut, DecodeError> {
        let value = Amount::from_sat(u64::from_le_bytes(self.array()?));
        Ok(TxOut { value, script_pubkey: self.script()? })
    }

    fn witness(&mut self) -> Result<Witness, DecodeError> {
        Ok(Witness::from_slice(&self.list(Self::blob)?))
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::consensus::{deserialize, serialize};
    use proptest::prelude::*;

    use super::*;

    /// A transaction with as many inputs, outputs and witness elements, of scripts of a size.
    fn sample(inputs: usize, outputs: usize, witness: usize, size: usize) -> Transaction {
        let input = TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([7; 32]), vout: 9 },
            script_sig: ScriptBuf::from_bytes(vec![1; size]),
            sequence: Sequence(5),
            witness: Witness::from_slice(&vec![vec![3; size]; witness]),
        };
        let output = TxOut { value: Amount::from_sat(u64::MAX), script_pubkey: ScriptBuf::from_bytes(vec![2; size]) };
        Transaction {
            version: Version(-3),
            lock_time: LockTime::from_consensus(0xffff_0001),
            input: vec![input; inputs],
            output: vec![output; outputs],
        }
    }

    #[test]
    fn reads_what_is_written() {
        for size in [0, 1, 252, 253, 65_535, 65_536] {
            for witness in [0, 1, 3] {
                let transaction = sample(2, 3, witness, size);
                assert_eq!(decode_transaction(&serialize(&transaction), Form::Witness), Ok(transaction));
            }
        }
        let bytes = serialize(&sample(1, 0, 0, 0));
        assert_eq!(decode_transaction(&bytes, Form::Legacy), decode_transaction(&bytes, Form::Witness));
        let blank = hex::decode("02000000000000000000").unwrap();
        let read = decode_transaction(&blank, Form::Witness).unwrap();
        assert_eq!((read.input.len(), read.output.len()), (0, 0));
        assert_eq!(decode_transaction(&blank, Form::Legacy), Ok(read));
        let large = sample(1, 1, 1, 4_100_000);
        assert_eq!(decode_transaction(&serialize(&large), Form::Witness), Ok(large));
    }

    #[test]
    fn each_fault_has_its_name() {
        use DecodeError as E;
        let judge = |text: &str| decode_transaction(&hex::decode(text.replace(' ', "")).unwrap(), Form::Witness);
        let input = format!("{} 00000000 00 ffffffff", "11".repeat(32));
        for (text, expected) in [
            ("02000000 00 00 000000".to_owned(), E::Truncated),
            ("02000000 00 00 00000000 00".to_owned(), E::TrailingBytes),
            ("02000000 00 02 00 00 00000000".to_owned(), E::UnknownFlag),
            (format!("02000000 00 03 01 {input} 00 01 00 00000000"), E::UnknownFlag),
            (format!("02000000 00 01 01 {input} 00 00 00000000"), E::SuperfluousWitness),
            ("02000000 00 01 00 00 00000000".to_owned(), E::SuperfluousWitness),
            (format!("02000000 fd0100 {input} 00 00000000"), E::NonCanonicalSize),
            (format!("02000000 fe01000000 {input} 00 00000000"), E::NonCanonicalSize),
            (format!("02000000 ff0100000000000000 {input} 00 00000000"), E::NonCanonicalSize),
            ("02000000 fe01000002".to_owned(), E::SizeTooLarge),
            ("02000000 fe00000002".to_owned(), E::Truncated),
        ] {
            assert_eq!(judge(&text), Err(expected), "{text}");
        }
        assert!(judge(&format!("02000000 00 01 01 {input} 00 01 00 00000000")).is_ok());
    }

    #[test]
    fn blocks_are_read_up_to_their_end() {
        let genesis = &crate::params::Network::Regtest.params().genesis;
        let mut bytes = serialize(genesis);
        let length = bytes.len();
        bytes.push(7);
        assert_eq!(decode_block(&bytes), Ok((genesis.clone(), length)));
        // A transaction without inputs and outputs breaks a rule, but is read.
        let blank = hex::decode("02000000000000000000").unwrap();
        let (odd, _) = decode_block(&[&bytes[..80], &[1], &blank].concat()).unwrap();
        assert!(odd.txdata.len() == 1 && odd.txdata[0].input.is_empty());
        for end in 0..length {
            assert_eq!(decode_block(&bytes[..end]), Err(DecodeError::Truncated));
        }
    }

    proptest! {
        /// Whatever the crate reads, this reads alike, but for the mark for witnesses where there are no inputs: Core
        /// finds it superfluous. What the crate refuses may be read here where there are no inputs only.
        #[test]
        fn agrees_with_rust_bitcoin(edits in proptest::collection::vec((0usize..300, any::<u8>()), 0..4), witness in 0usize..3) {
            let mut bytes = serialize(&sample(2, 2, witness, 20));
            for (place, byte) in edits {
                let place = place % bytes.len();
                bytes[place] = byte;
            }
            let ours = decode_transaction(&bytes, Form::Witness);
            match deserialize::<Transaction>(&bytes) {
                Ok(theirs) if theirs.input.is_empty() => prop_assert_eq!(ours, Err(DecodeError::SuperfluousWitness)),
                Ok(theirs) => prop_assert_eq!(ours, Ok(theirs)),
                Err(_) => prop_assert!(ours.is_err() || ours.is_ok_and(|tx| tx.input.is_empty())),
            }
        }
    }
}
