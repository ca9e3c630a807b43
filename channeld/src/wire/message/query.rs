//! Questions about what nodes told everybody (BOLT 7, "Query Messages"), their answers, and the filter for what is to follow.
//! Lists come behind a byte for their encoding: only 0 is used; zlib (1) is forbidden today, so it is kept as it came and refused by
//! whoever acts on the message.

use bitcoin::constants::ChainHash;
use serde::{Deserialize, Serialize};

use crate::units::ShortChannelId;
use crate::wire::DecodeError;
use crate::wire::codec::{Field, Reader, TlvValue, write_bigsize, write_bytes_u16};

/// A list behind the byte for its encoding (BOLT 7, "Encoding types").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoded<T> {
    /// Encoding 0: one element after the other.
    Plain(Vec<T>),
    /// An encoding that must not be used, or that nobody knows.
    Unknown {
        /// The byte in front.
        encoding: u8,
        /// What follows.
        bytes: Vec<u8>,
    },
}

impl<T> Encoded<T> {
    /// The elements, where the encoding is known.
    pub fn elements(&self) -> Option<&[T]> {
        match self {
            Encoded::Plain(elements) => Some(elements),
            Encoded::Unknown { .. } => None,
        }
    }
}

impl<T: Field> TlvValue for Encoded<T> {
    fn write_value(&self, out: &mut Vec<u8>) {
        match self {
            Encoded::Plain(elements) => {
                out.push(0);
                elements.iter().for_each(|element| element.write(out));
            }
            Encoded::Unknown { encoding, bytes } => {
                out.push(*encoding);
                out.extend_from_slice(bytes);
            }
        }
    }

    fn read_value(reader: &mut Reader<'_>) -> Result<Encoded<T>, DecodeError> {
        if reader.is_empty() {
            return Ok(Encoded::Plain(Vec::new()));
        }
        let [encoding] = reader.array()?;
        if encoding != 0 {
            return Ok(Encoded::Unknown { encoding, bytes: reader.take_rest().to_vec() });
        }
        read_all(reader).map(Encoded::Plain)
    }
}

/// The list as a field of its own: behind its length in bytes.
impl<T: Field> Field for Encoded<T> {
    fn write(&self, out: &mut Vec<u8>) {
        let mut bytes = Vec::new();
        self.write_value(&mut bytes);
        write_bytes_u16(&bytes, out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Encoded<T>, DecodeError> {
        Encoded::read_value(&mut Reader::new(reader.bytes_u16()?))
    }
}

/// All elements up to the end. Each takes at least a byte of the message, so the list is not longer than that.
fn read_all<T: Field>(reader: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
    let mut elements = Vec::new();
    while !reader.is_empty() {
        elements.push(T::read(reader)?);
    }
    Ok(elements)
}

/// What is wanted of one channel: a minimally encoded bitfield.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryFlag(pub u64);

impl QueryFlag {
    /// The `channel_announcement`.
    pub const ANNOUNCEMENT: u64 = 1;
    /// The `channel_update` of node 1.
    pub const UPDATE_1: u64 = 2;
    /// The `channel_update` of node 2.
    pub const UPDATE_2: u64 = 4;
    /// The `node_announcement` of node 1.
    pub const NODE_1: u64 = 8;
    /// The `node_announcement` of node 2.
    pub const NODE_2: u64 = 16;
    /// All of it: what a query without flags asks for.
    pub const ALL: QueryFlag = QueryFlag(31);

    /// Whether it asks for `what`, one of the constants.
    pub const fn wants(self, what: u64) -> bool {
        self.0 & what != 0
    }
}

impl Field for QueryFlag {
    fn write(&self, out: &mut Vec<u8>) {
        write_bigsize(self.0, out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<QueryFlag, DecodeError> {
        reader.bigsize().map(QueryFlag)
    }
}

/// Which figures of the updates are wanted with a range: the TLV `query_option`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryOption(pub u64);

impl QueryOption {
    /// Timestamps are wanted.
    pub const TIMESTAMPS: u64 = 1;
    /// Checksums are wanted.
    pub const CHECKSUMS: u64 = 2;

    /// Whether it asks for `what`, one of the constants.
    pub const fn wants(self, what: u64) -> bool {
        self.0 & what != 0
    }
}

impl TlvValue for QueryOption {
    fn write_value(&self, out: &mut Vec<u8>) {
        write_bigsize(self.0, out);
    }

    fn read_value(reader: &mut Reader<'_>) -> Result<QueryOption, DecodeError> {
        reader.bigsize().map(QueryOption)
    }
}

/// One figure for each of a channel's two updates; 0 where there is no update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdatePair {
    /// Of the update of node 1.
    pub node_1: u32,
    /// Of the update of node 2.
    pub node_2: u32,
}

impl Field for UpdatePair {
    fn write(&self, out: &mut Vec<u8>) {
        self.node_1.write(out);
        self.node_2.write(out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<UpdatePair, DecodeError> {
        Ok(UpdatePair { node_1: u32::read(reader)?, node_2: u32::read(reader)? })
    }
}

/// The TLV `checksums_tlv`: a list without a byte for its encoding.
impl TlvValue for Vec<UpdatePair> {
    fn write_value(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|pair| pair.write(out));
    }

    fn read_value(reader: &mut Reader<'_>) -> Result<Vec<UpdatePair>, DecodeError> {
        read_all(reader)
    }
}

message! {
    /// Asks for what is known of channels (BOLT 7, `query_short_channel_ids`).
    pub struct QueryShortChannelIds = 261 {
        /// The chain.
        chain_hash: ChainHash,
        /// The channels, ascending.
        short_channel_ids: Encoded<ShortChannelId>,
    }
    tlvs {
        /// What is wanted, one for each channel.
        1 => query_flags: Encoded<QueryFlag>,
    }
}

message! {
    /// Ends the answer to `query_short_channel_ids` (BOLT 7).
    pub struct ReplyShortChannelIdsEnd = 262 {
        /// The chain.
        chain_hash: ChainHash,
        /// 1: the sender keeps up with the chain's channels.
        full_information: u8,
    }
}

message! {
    /// Asks which channels there are in a range of blocks (BOLT 7, `query_channel_range`).
    pub struct QueryChannelRange = 263 {
        /// The chain.
        chain_hash: ChainHash,
        /// The first block.
        first_blocknum: u32,
        /// How many blocks, at least 1.
        number_of_blocks: u32,
    }
    tlvs {
        /// What is wanted beside the ids.
        1 => query_option: QueryOption,
    }
}

message! {
    /// A part of the answer to `query_channel_range` (BOLT 7).
    pub struct ReplyChannelRange = 264 {
        /// The chain.
        chain_hash: ChainHash,
        /// The first block that this part covers.
        first_blocknum: u32,
        /// How many blocks it covers.
        number_of_blocks: u32,
        /// 1: the last part. Other implementations have used the byte otherwise, so nothing rests on it alone.
        sync_complete: u8,
        /// The channels, ascending.
        short_channel_ids: Encoded<ShortChannelId>,
    }
    tlvs {
        /// The timestamps of their updates.
        1 => timestamps: Encoded<UpdatePair>,
        /// The checksums of their updates.
        3 => checksums: Vec<UpdatePair>,
    }
}

message! {
    /// What the sender wants to hear from now on (BOLT 7, `gossip_timestamp_filter`).
    pub struct GossipTimestampFilter = 265 {
        /// The chain.
        chain_hash: ChainHash,
        /// The earliest timestamp.
        first_timestamp: u32,
        /// How many seconds from there.
        timestamp_range: u32,
    }
}

impl QueryChannelRange {
    /// The first block behind the range.
    pub const fn end(&self) -> u32 {
        self.first_blocknum.saturating_add(self.number_of_blocks)
    }
}

impl ReplyChannelRange {
    /// The first block behind the range.
    pub const fn end(&self) -> u32 {
        self.first_blocknum.saturating_add(self.number_of_blocks)
    }
}

impl GossipTimestampFilter {
    /// Whether what has this timestamp is wanted.
    pub const fn wants(&self, timestamp: u32) -> bool {
        timestamp >= self.first_timestamp && timestamp - self.first_timestamp < self.timestamp_range
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::wire::Message;

    fn hex_of(case: &Value) -> Vec<u8> {
        hex::decode(case["hex"].as_str().unwrap()).unwrap()
    }

    fn ids(case: &Value) -> Vec<ShortChannelId> {
        let array = case["msg"]["shortChannelIds"]["array"].as_array().unwrap();
        array.iter().map(|id| id.as_str().unwrap().parse().unwrap()).collect()
    }

    /// The elements, where the case has them plain; zlib is kept and not looked into.
    fn check_encoding<T: PartialEq + std::fmt::Debug>(list: &Value, encoded: &Encoded<T>, expected: &[T]) {
        match list["encoding"].as_str().unwrap() {
            "UNCOMPRESSED" => assert_eq!(encoded.elements(), Some(expected)),
            _ => assert!(matches!(encoded, Encoded::Unknown { encoding: 1, .. })),
        }
    }

    fn pairs(list: &Value, names: [&str; 2]) -> Vec<UpdatePair> {
        let number = |pair: &Value, name: &str| u32::try_from(pair[name].as_u64().unwrap()).unwrap();
        let pair = |it: &Value| UpdatePair { node_1: number(it, names[0]), node_2: number(it, names[1]) };
        list.as_array().unwrap().iter().map(pair).collect()
    }

    /// BOLT 7's vectors for extended queries: read, compared with their description, and written again.
    #[test]
    fn vectors_of_extended_queries() {
        let Some(folder) = std::env::var_os("SPEC_VECTORS") else { return };
        let path = std::path::Path::new(&folder).join("bolt07-extended-queries.json");
        let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(cases.len() >= 8);
        for case in &cases {
            let bytes = hex_of(case);
            let message = Message::decode(&bytes).unwrap();
            assert_eq!(message.encode(), bytes);
            let said = &case["msg"];
            match message {
                Message::QueryChannelRange(it) => {
                    assert_eq!(u64::from(it.first_blocknum), said["firstBlockNum"].as_u64().unwrap());
                    assert_eq!(u64::from(it.number_of_blocks), said["numberOfBlocks"].as_u64().unwrap());
                    let wants = said["tlvStream"]["records"].as_array().unwrap();
                    assert_eq!(it.query_option, (!wants.is_empty()).then_some(QueryOption(3)));
                }
                Message::ReplyChannelRange(it) => {
                    assert_eq!(u64::from(it.first_blocknum), said["firstBlockNum"].as_u64().unwrap());
                    check_encoding(&said["shortChannelIds"], &it.short_channel_ids, &ids(case));
                    let times = &said["timestamps"];
                    if let Some(list) = &it.timestamps {
                        check_encoding(times, list, &pairs(&times["timestamps"], ["timestamp1", "timestamp2"]));
                    }
                    let sums = said["checksums"]["checksums"].as_array().map(|_| &said["checksums"]["checksums"]);
                    assert_eq!(it.checksums, sums.map(|list| pairs(list, ["checksum1", "checksum2"])));
                }
                Message::QueryShortChannelIds(it) => {
                    check_encoding(&said["shortChannelIds"], &it.short_channel_ids, &ids(case));
                    assert_eq!(it.query_flags.is_some(), said["tlvStream"]["records"][0].is_object());
                }
                other => panic!("no query: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let read = |text: &str| Encoded::<ShortChannelId>::read(&mut Reader::new(&hex::decode(text).unwrap()));
        assert_eq!(read("0000"), Ok(Encoded::Plain(vec![])), "some leave out the encoding of nothing");
        assert_eq!(read("000100"), Ok(Encoded::Plain(vec![])));
        assert_eq!(read("00050000000000"), Err(DecodeError::TooShort), "no whole number of ids");
        assert_eq!(read("000901"), Err(DecodeError::TooShort));
        let flags = |text: &str| Encoded::<QueryFlag>::read_value(&mut Reader::new(&hex::decode(text).unwrap()));
        assert_eq!(flags("00fd001f"), Err(DecodeError::BigSizeNotMinimal));
        assert_eq!(flags("001f02"), Ok(Encoded::Plain(vec![QueryFlag::ALL, QueryFlag(2)])));
    }

    #[test]
    fn a_filter_is_half_open() {
        let filter = |first_timestamp, timestamp_range| GossipTimestampFilter {
            chain_hash: ChainHash::REGTEST,
            first_timestamp,
            timestamp_range,
        };
        assert!(filter(10, 5).wants(10) && filter(10, 5).wants(14));
        assert!(!filter(10, 5).wants(9) && !filter(10, 5).wants(15));
        assert!(filter(0, u32::MAX).wants(u32::MAX - 1));
        assert!(!filter(u32::MAX, 0).wants(u32::MAX));
    }
}
