//! How coins, undo data and index rows look as bytes. Numbers are base-128 varints, least significant group first.

use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, encode};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, TxOut, Txid};

use crate::chain::{BlockUndo, Coin, IndexRow, LentCoin, Position};

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

/// Bytes of an encoded header.
const HEADER_SIZE: usize = 80;

struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    const fn new(rest: &'a [u8], what: &'static str) -> Self {
        Self { rest, what }
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed(self.what))?;
        self.rest = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes(1)?[0];
            let group = u64::from(byte & 0x7f);
            if group << shift >> shift != group {
                break;
            }
            value |= group << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed(self.what))
    }

    fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, Malformed> {
        T::try_from(self.number()?).map_err(|_| Malformed(self.what))
    }

    /// A count of things of which each takes at least one byte: bounded by what is left.
    fn count(&mut self) -> Result<usize, Malformed> {
        let count: usize = self.narrow()?;
        if count <= self.rest.len() { Ok(count) } else { Err(Malformed(self.what)) }
    }

    fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed(self.what)) }
    }
}

fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Height, whether a coinbase made it, value; the script is what follows.
fn put_coin_head(out: &mut Vec<u8>, coin: LentCoin<'_>) {
    put_number(out, u64::from(coin.height) << 1 | u64::from(coin.is_coinbase));
    put_number(out, coin.value.to_sat());
}

/// A coin as the value of its row.
pub(super) fn encode_coin(coin: LentCoin<'_>) -> Vec<u8> {
    let script = coin.script.as_bytes();
    let mut out = Vec::with_capacity(script.len() + 10);
    put_coin_head(&mut out, coin);
    out.extend_from_slice(script);
    out
}

/// The coin of a row.
pub(super) fn decode_coin(bytes: &[u8]) -> Result<Coin, Malformed> {
    let mut reader = Reader::new(bytes, "coin");
    let (height, is_coinbase, value) = coin_head(&mut reader)?;
    let script_pubkey = ScriptBuf::from_bytes(reader.rest.to_vec());
    Ok(Coin { output: TxOut { value, script_pubkey }, height, is_coinbase })
}

fn coin_head(reader: &mut Reader<'_>) -> Result<(u32, bool, Amount), Malformed> {
    let code = reader.number()?;
    let height = u32::try_from(code >> 1).map_err(|_| Malformed(reader.what))?;
    Ok((height, code & 1 == 1, Amount::from_sat(reader.number()?)))
}

/// Appends the undo data of a block.
pub(super) fn encode_undo(out: &mut Vec<u8>, undo: &BlockUndo) {
    put_number(out, undo.spent.len() as u64);
    for coins in &undo.spent {
        put_number(out, coins.len() as u64);
        for coin in coins {
            put_coin_head(out, coin.lent());
            put_number(out, coin.output.script_pubkey.len() as u64);
            out.extend_from_slice(coin.output.script_pubkey.as_bytes());
        }
    }
}

/// Undo data from its record.
pub(super) fn decode_undo(bytes: &[u8]) -> Result<BlockUndo, Malformed> {
    let mut reader = Reader::new(bytes, "undo data");
    let transactions = reader.count()?;
    let mut spent = Vec::with_capacity(transactions);
    for _ in 0..transactions {
        let count = reader.count()?;
        let mut coins = Vec::with_capacity(count.min(1_024));
        for _ in 0..count {
            let (height, is_coinbase, value) = coin_head(&mut reader)?;
            let length = reader.narrow()?;
            let script_pubkey = ScriptBuf::from_bytes(reader.bytes(length)?.to_vec());
            coins.push(Coin { output: TxOut { value, script_pubkey }, height, is_coinbase });
        }
        spent.push(coins);
    }
    reader.end()?;
    Ok(BlockUndo { spent })
}

const FLAG_FAILED: u64 = 1;
const FLAG_DATA: u64 = 2;
const FLAG_UNDO: u64 = 4;

/// A row of the index; its height is in the key.
pub(super) fn encode_row(row: &IndexRow) -> Vec<u8> {
    let mut out = encode::serialize(&row.header);
    let flag = |is_set: bool, flag: u64| if is_set { flag } else { 0 };
    let flags =
        flag(row.is_failed, FLAG_FAILED) | flag(row.data.is_some(), FLAG_DATA) | flag(row.undo.is_some(), FLAG_UNDO);
    put_number(&mut out, flags);
    put_number(&mut out, u64::from(row.transaction_count));
    // Zigzag: precious blocks have small negative numbers.
    put_number(&mut out, (row.sequence << 1 ^ row.sequence >> 63).cast_unsigned());
    for position in [row.data, row.undo].into_iter().flatten() {
        put_position(&mut out, position);
    }
    out
}

/// A row of the index at `height`.
pub(super) fn decode_row(height: u32, bytes: &[u8]) -> Result<IndexRow, Malformed> {
    let mut reader = Reader::new(bytes, "row of the block index");
    let header: Header = deserialize(reader.bytes(HEADER_SIZE)?).map_err(|_| Malformed("header"))?;
    let flags = reader.number()?;
    let transaction_count = reader.narrow()?;
    let zigzag = reader.number()?;
    let mut position = |flag| if flags & flag != 0 { read_position(&mut reader).map(Some) } else { Ok(None) };
    let (data, undo) = (position(FLAG_DATA)?, position(FLAG_UNDO)?);
    reader.end()?;
    Ok(IndexRow {
        height,
        header,
        is_failed: flags & FLAG_FAILED != 0,
        transaction_count,
        sequence: (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed(),
        data,
        undo,
    })
}

fn put_position(out: &mut Vec<u8>, position: Position) {
    for part in [position.segment, position.offset, position.length] {
        put_number(out, u64::from(part));
    }
}

fn read_position(reader: &mut Reader<'_>) -> Result<Position, Malformed> {
    Ok(Position { segment: reader.narrow()?, offset: reader.narrow()?, length: reader.narrow()? })
}

/// Where the next record of the log goes, as the value of its row.
pub(super) fn encode_log_end(segment: u32, offset: u32) -> Vec<u8> {
    let mut out = Vec::new();
    put_position(&mut out, Position { segment, offset, length: 0 });
    out
}

/// Segment and offset from their row.
pub(super) fn decode_log_end(bytes: &[u8]) -> Result<(u32, u32), Malformed> {
    let mut reader = Reader::new(bytes, "end of the block log");
    let position = read_position(&mut reader)?;
    reader.end()?;
    Ok((position.segment, position.offset))
}

/// A coin's key: ordered by transaction id as bytes, then by index.
pub(super) fn coin_key(outpoint: &OutPoint) -> [u8; 37] {
    let mut key = [COINS; 37];
    key[1..33].copy_from_slice(outpoint.txid.as_byte_array());
    key[33..].copy_from_slice(&outpoint.vout.to_be_bytes());
    key
}

/// The outpoint of a coin's key.
pub(super) fn decode_coin_key(key: &[u8]) -> Result<OutPoint, Malformed> {
    let key: &[u8; 37] = key.try_into().map_err(|_| Malformed("key of a coin"))?;
    let (txid, vout) = key[1..].split_first_chunk::<32>().expect("36 bytes hold 32");
    let vout = u32::from_be_bytes(vout.try_into().expect("4 of 36 bytes are left"));
    Ok(OutPoint { txid: Txid::from_byte_array(*txid), vout })
}

/// A block's key: ordered by height, so that parents are read before their children.
pub(super) fn row_key(row: &IndexRow) -> [u8; 37] {
    let mut key = [INDEX; 37];
    key[1..5].copy_from_slice(&row.height.to_be_bytes());
    key[5..].copy_from_slice(row.header.block_hash().as_byte_array());
    key
}

/// The height in a block's key.
pub(super) fn decode_row_height(key: &[u8]) -> Result<u32, Malformed> {
    key.get(1..5).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes).ok_or(Malformed("key of a block"))
}

/// The key that says that this flush is here.
pub(super) fn flush_key(number: u64) -> [u8; 9] {
    let mut key = [FLUSHES; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The number of a flush.
pub(super) fn decode_flush_key(key: &[u8]) -> Result<u64, Malformed> {
    let number = key.get(1..).and_then(|bytes| bytes.try_into().ok());
    number.map(u64::from_be_bytes).ok_or(Malformed("key of a flush"))
}

/// First byte of the keys of flushes.
pub(super) const FLUSHES: u8 = b'f';
/// First byte of the keys of coins.
pub(super) const COINS: u8 = b'c';
/// First byte of the keys of the index.
pub(super) const INDEX: u8 = b'i';
/// The block whose coins are stored.
pub(super) const BEST_BLOCK: &[u8] = b"mbest";
/// Up to where the log is synced and known to the index.
pub(super) const LOG_END: &[u8] = b"mlog";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Network;
    use proptest::prelude::*;

    fn coin() -> impl Strategy<Value = Coin> {
        let script = proptest::collection::vec(any::<u8>(), 0..200);
        (any::<u64>(), script, any::<u32>(), any::<bool>()).prop_map(|(sat, script, height, is_coinbase)| {
            let output = TxOut { value: Amount::from_sat(sat), script_pubkey: ScriptBuf::from_bytes(script) };
            Coin { output, height, is_coinbase }
        })
    }

    fn position() -> impl Strategy<Value = Option<Position>> {
        proptest::option::of(
            (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(segment, offset, length)| Position {
                segment,
                offset,
                length,
            }),
        )
    }

    proptest! {
        #[test]
        fn coins_and_undo_are_read_back(coins in proptest::collection::vec(coin(), 0..5)) {
            for coin in &coins {
                prop_assert_eq!(decode_coin(&encode_coin(coin.lent())), Ok(coin.clone()));
            }
            let undo = BlockUndo { spent: vec![coins.clone(), vec![], coins] };
            let mut bytes = Vec::new();
            encode_undo(&mut bytes, &undo);
            prop_assert_eq!(decode_undo(&bytes), Ok(undo));
        }

        #[test]
        fn rows_are_read_back(
            height in any::<u32>(), is_failed in any::<bool>(), transaction_count in any::<u32>(), sequence in any::<i64>(),
            data in position(), undo in position(),
        ) {
            let header = Network::Regtest.params().genesis.header;
            let row = IndexRow { height, header, is_failed, transaction_count, sequence, data, undo };
            prop_assert_eq!(decode_row_height(&row_key(&row)), Ok(height));
            prop_assert_eq!(decode_row(height, &encode_row(&row)), Ok(row));
        }

        #[test]
        fn any_bytes_are_refused_or_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (decode_coin(&bytes), decode_undo(&bytes), decode_row(0, &bytes), decode_log_end(&bytes));
        }

        #[test]
        fn keys_keep_the_order_of_outpoints(a in any::<[u8; 32]>(), b in any::<u32>(), c in any::<u32>()) {
            let outpoint = |vout| OutPoint { txid: Txid::from_byte_array(a), vout };
            prop_assert_eq!(b.cmp(&c), coin_key(&outpoint(b)).cmp(&coin_key(&outpoint(c))));
            prop_assert_eq!(decode_coin_key(&coin_key(&outpoint(b))), Ok(outpoint(b)));
        }
    }
}
