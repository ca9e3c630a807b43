//! Setup and control (BOLT 1): `init`, `error`, `warning`, `ping`, `pong`.

use bitcoin::constants::ChainHash;

use crate::units::ChannelId;
use crate::wire::Features;

message! {
    /// The first message of a connection: what its sender can do and on which chains (BOLT 1, `init`).
    pub struct Init = 16 {
        /// Features 0 to 13 as old nodes sent them; empty in ours, and one map with `features` when read.
        globalfeatures: Features,
        /// The features of BOLT 9.
        features: Features,
    } tlvs {
        /// The chains of interest; none given says nothing.
        1 => networks: Vec<ChainHash>,
        /// The receiver's address as the sender sees it: an address descriptor of BOLT 7.
        3 => remote_addr: Vec<u8>,
    }
}

impl Init {
    /// An `init` for one chain.
    pub fn new(features: Features, chain_hash: ChainHash) -> Init {
        Init { globalfeatures: Features::empty(), features, networks: Some(vec![chain_hash]), remote_addr: None }
    }

    /// Both feature fields as one map.
    pub fn all_features(&self) -> Features {
        self.features.union(&self.globalfeatures)
    }

    /// Whether the sender is there for `chain_hash`, or does not say for which chains it is.
    pub fn is_for(&self, chain_hash: ChainHash) -> bool {
        self.networks.as_ref().is_none_or(|networks| networks.contains(&chain_hash))
    }
}

message! {
    /// A channel, or all of them, has failed (BOLT 1, `error`).
    pub struct Error = 17 {
        /// The channel; all zero for all of them.
        channel_id: ChannelId,
        /// Why, in words or bytes; see [`Error::text`].
        data: Vec<u8>,
    }
}

message! {
    /// Something is wrong, and no channel fails for it (BOLT 1, `warning`).
    pub struct Warning = 1 {
        /// The channel; all zero for none in particular.
        channel_id: ChannelId,
        /// What, in words or bytes; see [`Warning::text`].
        data: Vec<u8>,
    }
}

impl Error {
    /// An error in words; as many of them as fit into a message.
    pub fn new(channel_id: ChannelId, text: &str) -> Error {
        Error { channel_id, data: words(text) }
    }

    /// What the peer says, safe to print: hexadecimal where it is not printable ASCII (BOLT 1).
    pub fn text(&self) -> String {
        printable(&self.data)
    }
}

impl Warning {
    /// A warning in words; as many of them as fit into a message.
    pub fn new(channel_id: ChannelId, text: &str) -> Warning {
        Warning { channel_id, data: words(text) }
    }

    /// What the peer says, safe to print: hexadecimal where it is not printable ASCII (BOLT 1).
    pub fn text(&self) -> String {
        printable(&self.data)
    }
}

fn words(text: &str) -> Vec<u8> {
    // Type, channel id and length come before.
    let most = super::MAX_MESSAGE_LENGTH - 2 - 32 - 2;
    text.as_bytes().iter().copied().take(most).collect()
}

/// The first kilobyte of a peer's words: whoever prints them must not be fooled or flooded.
fn printable(data: &[u8]) -> String {
    let shown = &data[..data.len().min(1_024)];
    if shown.iter().all(|byte| (32..=126).contains(byte)) {
        return String::from_utf8_lossy(shown).into_owned();
    }
    hex::encode(shown)
}

message! {
    /// Asks for a `pong` (BOLT 1, `ping`).
    pub struct Ping = 18 {
        /// How long the answer is to be; from 65,532 on no answer is wanted.
        num_pong_bytes: u16,
        /// Padding; zeros in ours.
        ignored: Vec<u8>,
    }
}

impl Ping {
    /// The longest `pong` that fits into a message: what asks for more wants no answer.
    pub const MAX_PONG_BYTES: u16 = 65_531;

    /// The answer that BOLT 1 asks for, if any.
    pub fn pong(&self) -> Option<Pong> {
        let length = usize::from(self.num_pong_bytes);
        (self.num_pong_bytes <= Ping::MAX_PONG_BYTES).then(|| Pong { ignored: vec![0; length] })
    }
}

message! {
    /// The answer to a `ping` (BOLT 1, `pong`).
    pub struct Pong = 19 {
        /// As many bytes as were asked for.
        ignored: Vec<u8>,
    }
}
