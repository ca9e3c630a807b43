//! A directory with a chain in several segments, part of it unflushed, and what is right at each height.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, transaction};
use l1_utxo::chain::{CoinsHash, Source, coins_stats};
use l1_utxo::consensus::HashedBlock;
use l1_utxo::consensus::pow::check_proof_of_work;
use l1_utxo::driver::{Ledger, LedgerError, LedgerOptions, Submission};
use l1_utxo::mempool::Policy;
use l1_utxo::params::Network;
use l1_utxo::store::{Store, StoreOptions};

const FLUSHED: u32 = 120;
const UNFLUSHED: u32 = 5;

fn options() -> LedgerOptions {
    // The first flush, of sixty coins, is a table of its own; the later ones lie in the journal.
    let store = StoreOptions { segment_size: 16 << 10, table_from: 40, ..StoreOptions::default() };
    LedgerOptions { store, ..LedgerOptions::default() }
}

pub fn open(dir: &Path) -> Result<Ledger, LedgerError> {
    Ledger::open(dir, Network::Regtest, Policy::default(), options())
}

/// The height of a chain and the hash of its coins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub height: u32,
    tip: String,
    coins: [u8; 32],
}

impl State {
    /// Flushes and hashes.
    pub fn of(ledger: &mut Ledger) -> Self {
        Self::try_of(ledger).unwrap()
    }

    /// As `of`, or what could not be read.
    pub fn try_of(ledger: &mut Ledger) -> Result<Self, String> {
        ledger.flush().map_err(|error| error.to_string())?;
        let stats =
            coins_stats(CoinsHash::MuHash, ledger.coins_snapshot().iter()).map_err(|error| error.to_string())?;
        let tip = ledger.tip();
        Ok(Self { height: tip.height, tip: tip.hash.to_string(), coins: stats.hash.unwrap() })
    }
}

/// A killed node's directory, and what it was at every height.
pub struct Reference {
    _home: tempfile::TempDir,
    late: PathBuf,
    early: PathBuf,
    pub flushed: u32,
    states: Vec<State>,
}

impl Reference {
    /// Another salt, another chain from height 1 on.
    pub fn new(salt: u8) -> Self {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("late");
        let mut ledger = open(&dir).unwrap();
        let mut states = vec![State::of(&mut ledger)];
        for height in 1..=FLUSHED {
            mine(&mut ledger, salt);
            // States are taken where a start may find the chain: after a flush.
            if height >= 60 {
                states.push(State::of(&mut ledger));
            }
            if height == 60 {
                ledger.close().unwrap();
                super::copy_dir(&dir, &home.path().join("early"));
                ledger = open(&dir).unwrap();
            }
        }
        ledger.close().unwrap();
        // What comes now is in the log only; beside it a copy tells what it is worth.
        let aside = home.path().join("aside");
        super::copy_dir(&dir, &aside);
        let (mut ledger, mut shadow) = (open(&dir).unwrap(), open(&aside).unwrap());
        for _ in 0..UNFLUSHED {
            mine(&mut ledger, salt);
            mine(&mut shadow, salt);
            states.push(State::of(&mut shadow));
        }
        // Dropped as if killed.
        drop(ledger);
        Self { late: dir, early: home.path().join("early"), _home: home, flushed: FLUSHED, states }
    }

    pub fn dir(&self) -> &Path {
        &self.late
    }

    /// The same directory at half its height.
    pub fn early(&self) -> &Path {
        &self.early
    }

    /// Whether a state is that of this chain at its height.
    pub fn knows(&self, state: &State) -> bool {
        self.states.contains(state)
    }

    pub fn last(&self) -> State {
        self.states.last().unwrap().clone()
    }

    /// Where the first unflushed record begins in the last segment.
    pub fn tail_offset(&self) -> usize {
        let copy = super::Copy::of(self.dir());
        let store = Store::open_to_check(copy.path(), Network::Regtest.params(), options().store).unwrap();
        let (segment, offset) = store.stored().unwrap().flushed;
        assert_eq!(segment as usize + 1, super::files_in(&copy.path().join("blocks")).len());
        offset as usize
    }
}

/// A block that spends the coinbase that has matured; `salt` is in its coinbase's output.
fn mine(ledger: &mut Ledger, salt: u8) {
    let script = ScriptBuf::from_bytes(vec![0x51, 0x01, salt, 0x75]);
    let matured = ledger.chain().height().checked_sub(99).and_then(|height| ledger.chain().at_height(height));
    let spend = matured.filter(|id| ledger.chain().entry(*id).height > 0).map(|id| {
        let coinbase = ledger.read_block(id).unwrap().txids()[0];
        let output = |sat| TxOut { value: Amount::from_sat(sat), script_pubkey: script.clone() };
        Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint { txid: coinbase, vout: 0 },
                script_sig: ScriptBuf::new(),
                sequence: Sequence::MAX,
                witness: Witness::new(),
            }],
            output: vec![output(1_000), output(2_000)],
        }
    });
    // A fixed clock, so that a chain made twice is the same one.
    ledger.set_mock_time(Some(1_700_000_000 + i64::from(ledger.chain().height())));
    let mut block = ledger.assemble(&script, spend.into_iter().collect()).unwrap();
    while !check_proof_of_work(block.block_hash(), block.header.bits, Network::Regtest.params()) {
        block.header.nonce += 1;
    }
    let submitted = ledger.submit(Arc::new(HashedBlock::new(block)), Source::Requested).unwrap();
    assert!(matches!(submitted, Submission::Accepted(_)), "{submitted:?}");
}

/// What is done to the stored coins.
#[derive(Clone, Copy, Debug)]
pub enum WrongCoin {
    More,
    Less,
    Richer,
}

pub const WRONG_COINS: &[WrongCoin] = &[WrongCoin::More, WrongCoin::Less, WrongCoin::Richer];

/// Changes one coin in a database, as no node would.
pub fn commit_wrong_coin(dir: &Path, wrong: WrongCoin) {
    let database = fjall::Database::builder(dir.join("chainstate")).open().unwrap();
    let rows = database.keyspace("rows", fjall::KeyspaceCreateOptions::default).unwrap();
    let (key, value) = rows.prefix(b"c").next().unwrap().into_inner().unwrap();
    match wrong {
        WrongCoin::Less => rows.remove(key).unwrap(),
        WrongCoin::More => {
            let mut other = key.to_vec();
            *other.last_mut().unwrap() ^= 1;
            rows.insert(other, value).unwrap();
        }
        WrongCoin::Richer => {
            // Height and flag, then the value: one satoshi more or less in its lowest group.
            let mut bytes = value.to_vec();
            let place = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
            bytes[place] ^= 1;
            rows.insert(key, bytes).unwrap();
        }
    }
    database.persist(fjall::PersistMode::SyncAll).unwrap();
}
