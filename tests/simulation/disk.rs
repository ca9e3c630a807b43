//! The store's double: a journal of framed records, hot rows by checkpoint, cold rows, and every way to lose power.

use std::collections::BTreeMap;

use bitcoin::hashes::{Hash, sha256};
use channeld::node::state::State;
use channeld::node::state::change::Change;
use channeld::node::state::row::{Row, encode};
use channeld::node::{Record, state};
use serde::{Deserialize, Serialize};

/// What one turn leaves, as it lies on the disk.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Turn {
    /// The changes, encoded by themselves as the driver does.
    pub delta: Vec<u8>,
    /// Rows of the archive.
    pub rows: Vec<Row>,
    /// Events by index.
    pub events: Vec<(u64, Vec<u8>)>,
    /// Ended payments by place.
    pub payments: Vec<(u64, Vec<u8>)>,
}

impl From<Record> for Turn {
    fn from(record: Record) -> Turn {
        let Record { changes, rows, events, payments } = record;
        Turn { delta: encode(&changes), rows, events, payments }
    }
}

impl Turn {
    /// The changes in it.
    pub fn changes(&self) -> Vec<Change> {
        postcard::from_bytes(&self.delta).expect("what was encoded decodes")
    }
}

/// How the power goes while a record is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing of it was written.
    Nothing,
    /// A part of it was written.
    Torn,
    /// All of it was written, and nobody heard.
    Whole,
}

/// See the file's map.
#[derive(Clone, Default)]
pub struct Disk {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The high rows, which no start reads.
    cold: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Frames: length, digest, record.
    journal: Vec<u8>,
}

impl Disk {
    /// Makes a turn durable.
    pub fn append(&mut self, turn: &Turn) {
        let bytes = encode(turn);
        let frame = frame(&bytes);
        self.journal.extend_from_slice(&frame);
        for (key, value) in &turn.rows {
            match value {
                Some(value) => drop(self.cold.insert(key.clone(), value.clone())),
                None => drop(self.cold.remove(key)),
            }
        }
    }

    /// Power goes while a turn is being written.
    pub fn lose(&mut self, turn: &Turn, how: Loss, cut: usize) {
        match how {
            Loss::Nothing => {}
            Loss::Torn => {
                let frame = frame(&encode(turn));
                self.journal.extend_from_slice(&frame[..cut % frame.len()]);
            }
            Loss::Whole => self.append(turn),
        }
    }

    /// A checkpoint: rows that stand after the last turn of the journal.
    pub fn checkpoint(&mut self, rows: Vec<Row>) {
        for (key, value) in rows {
            match value {
                Some(value) => drop(self.rows.insert(key, value)),
                None => drop(self.rows.remove(&key)),
            }
        }
        self.journal.clear();
    }

    /// The rows of the archive whose keys begin like this.
    pub fn cold(&self, prefix: &[u8]) -> impl Iterator<Item = &Vec<u8>> {
        let prefix = prefix.to_vec();
        self.cold.iter().filter(move |(key, _)| key.starts_with(&prefix)).map(|(_, value)| value)
    }

    /// What a start finds: the rows, and all turns after them. A torn end is cut.
    pub fn recover(&mut self) -> State {
        let mut state = State::from_rows(&self.rows).expect("rows are understood");
        let mut at = 0;
        while let Some(bytes) = next_frame(&self.journal[at..]) {
            let turn: Turn = postcard::from_bytes(bytes).expect("a whole frame holds a turn");
            turn.changes().iter().for_each(|change| state.apply(change));
            at += HEADER + bytes.len();
        }
        self.journal.truncate(at);
        state
    }
}

const HEADER: usize = 36;

fn frame(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a record is short").to_be_bytes();
    [&length, sha256::Hash::hash(bytes).as_byte_array().as_slice(), bytes].concat()
}

fn next_frame(journal: &[u8]) -> Option<&[u8]> {
    let length = u32::from_be_bytes(journal.get(..4)?.try_into().ok()?) as usize;
    let bytes = journal.get(HEADER..HEADER + length)?;
    (sha256::Hash::hash(bytes).as_byte_array() == &journal[4..HEADER]).then_some(bytes)
}

/// All hot rows of a state, as a checkpoint of everything would write them.
pub fn rows_of(state: &State) -> BTreeMap<Vec<u8>, Vec<u8>> {
    use state::row::RowKey as K;
    let mut rows =
        BTreeMap::from([(K::Head.bytes(), encode(&state.head)), (K::Wallet.bytes(), state.wallet.to_bytes())]);
    rows.extend(state.channels.iter().map(|(id, it)| (K::Channel(*id).bytes(), encode(it))));
    rows.extend(state.resolvers.iter().map(|(id, it)| (K::Resolver(*id).bytes(), encode(it))));
    rows.extend(state.payments.iter().map(|(hash, it)| (K::Payment(*hash).bytes(), encode(it))));
    rows.extend(state.invoices.iter().map(|(hash, it)| (K::Invoice(*hash).bytes(), encode(it))));
    rows.extend(state.streams.iter().map(|(session, it)| (K::Stream(*session).bytes(), encode(it))));
    rows.extend(state.requests.iter().map(|(id, it)| (K::Request(id.clone()).bytes(), encode(it))));
    rows.extend(state.peers.iter().map(|(peer, it)| (K::Peer(*peer).bytes(), encode(it))));
    rows
}

/// The keys under which two states differ.
pub fn differences(one: &State, other: &State) -> Vec<String> {
    let (one, other) = (rows_of(one), rows_of(other));
    let keys = one.keys().chain(other.keys().filter(|key| !one.contains_key(*key)));
    keys.filter(|key| one.get(*key) != other.get(*key)).map(hex::encode).collect()
}
