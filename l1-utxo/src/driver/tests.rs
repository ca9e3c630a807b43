//! The ledger on a real disk: restarts, crashes, reorgs; and the thread around it.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::script::Builder;
use bitcoin::taproot::{LeafVersion, TaprootBuilder};
use bitcoin::{
    Address, Amount, Block, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxOut, Witness, XOnlyPublicKey,
};
use secp256k1::SECP256K1;
use tempfile::TempDir;

use super::*;
use crate::chain::tests::{coinbase, seal, spend};
use crate::chain::{BlockId, Source};
use crate::consensus::HashedBlock;
use crate::consensus::block::witness_commitment_script;
use crate::consensus::subsidy::block_subsidy;
use crate::mempool::Policy;
use crate::params::Network;
use crate::store::{StoreError, StoreOptions};

const COIN: u64 = 100_000_000;

fn open(dir: &Path) -> Result<Ledger, LedgerError> {
    Ledger::open(dir, Network::Regtest, Policy::default(), LedgerOptions::default())
}

fn submit(ledger: &mut Ledger, block: Block) -> Submission {
    ledger.submit(Arc::new(HashedBlock::new(block)), Source::Requested).unwrap()
}

fn block_on(ledger: &Ledger, parent: BlockId, salt: u32, transactions: &[Transaction]) -> Block {
    let entry = ledger.chain().entry(parent);
    let subsidy = block_subsidy(entry.height + 1, 150).to_sat();
    let coinbase = coinbase(entry.height + 1, salt, subsidy);
    seal(entry, std::iter::once(coinbase).chain(transactions.iter().cloned()).collect())
}

/// Mines on `parent` and returns the last block; each block spends the coinbase of 100 blocks before, if it is mature.
fn extend(ledger: &mut Ledger, parent: BlockId, count: u32, salt: u32) -> BlockId {
    let mut parent = parent;
    for _ in 0..count {
        let height = ledger.chain().entry(parent).height + 1;
        let mature = height.checked_sub(100).filter(|h| *h > 0 && ledger.chain().is_active(parent));
        let spends: Vec<Transaction> = mature
            .map(|height| {
                let id = ledger.chain().at_height(height).unwrap();
                let txid = ledger.read_block(id).unwrap().txids()[0];
                spend(&[OutPoint { txid, vout: 0 }], &[COIN, 2 * COIN])
            })
            .into_iter()
            .collect();
        let block = block_on(ledger, parent, salt, &spends);
        let hash = block.block_hash();
        assert!(!matches!(submit(ledger, block), Submission::Refused(_)));
        parent = ledger.chain().find(&hash).unwrap();
    }
    parent
}

/// A directory with a chain of `count` blocks, of which the ledger is still open.
fn mined(count: u32) -> (TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path()).unwrap();
    let genesis = ledger.chain().tip();
    extend(&mut ledger, genesis, count, 0);
    (dir, ledger)
}

fn hash(ledger: &mut Ledger) -> (Tip, CoinsStats) {
    ledger.flush().unwrap();
    (ledger.tip(), coins_stats(CoinsHash::Serialized, ledger.coins_snapshot().iter()).unwrap())
}

/// What `extend` leaves at a height, from a ledger of its own.
fn expected(count: u32) -> (Tip, CoinsStats) {
    let (_dir, mut ledger) = mined(count);
    hash(&mut ledger)
}

#[test]
fn what_was_not_flushed_is_connected_again() {
    for flushed_at in [0, 60, 119, 120] {
        let (dir, mut ledger) = mined(flushed_at);
        ledger.flush().unwrap();
        let tip = ledger.chain().tip();
        extend(&mut ledger, tip, 120 - flushed_at, 0);
        // Dropped like a process that was killed: nothing is flushed, but what was appended is in the file.
        drop(ledger);
        let mut again = open(dir.path()).unwrap();
        assert_eq!(hash(&mut again), expected(120), "flushed at {flushed_at}");
    }
}

#[test]
fn a_torn_last_record_costs_only_itself() {
    let (dir, mut ledger) = mined(105);
    ledger.flush().unwrap();
    let before = ledger.size_on_disk();
    let tip = ledger.chain().tip();
    extend(&mut ledger, tip, 1, 0);
    drop(ledger);
    let log = dir.path().join("blocks/00000.log");
    let bytes = std::fs::read(&log).unwrap();
    let (old, new) = (expected(105), expected(106));
    // The undo record is last and made again; cut in the block's record, and the block is gone.
    let block_length = u32::from_le_bytes(bytes[before as usize..before as usize + 4].try_into().unwrap()) as usize + 9;
    let block_end = before as usize + block_length;
    for length in (before as usize..bytes.len()).step_by(17).chain([block_end - 1, block_end, bytes.len() - 1]) {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), copy.path());
        std::fs::write(copy.path().join("blocks/00000.log"), &bytes[..length]).unwrap();
        let mut again = open(copy.path()).unwrap();
        assert_eq!(hash(&mut again), if length < block_end { old.clone() } else { new.clone() }, "cut at {length}");
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn a_log_shorter_than_the_coins_is_refused_and_built_upon_when_told() {
    let (dir, ledger) = mined(110);
    ledger.close().unwrap();
    let log = dir.path().join("blocks/00000.log");
    let bytes = std::fs::read(&log).unwrap();
    // In the middle of the last block's record, which lies before its undo data.
    std::fs::write(&log, &bytes[..bytes.len() - 150]).unwrap();
    let refused = open(dir.path()).err().unwrap().to_string();
    assert!(refused.contains("00000.log") && refused.contains("remove"), "{refused}");
    assert_eq!(std::fs::read(&log).unwrap().len(), bytes.len() - 150);
    // What the error says helps.
    std::fs::remove_dir_all(dir.path().join("chainstate")).unwrap();
    let mut again = open(dir.path()).unwrap();
    assert_eq!(hash(&mut again), expected(109));
    let tip = again.chain().tip();
    extend(&mut again, tip, 1, 0);
    assert_eq!(hash(&mut again), expected(110));
}

#[test]
fn a_clean_stop_and_a_second_process() {
    let (dir, ledger) = mined(3);
    let tip = ledger.tip();
    assert!(matches!(open(dir.path()), Err(LedgerError::Store(StoreError::Locked { .. }))));
    ledger.close().unwrap();
    let other = Ledger::open(dir.path(), Network::Devnet, Policy::default(), LedgerOptions::default());
    assert!(matches!(other, Err(LedgerError::Store(StoreError::OtherNetwork { .. }))));
    assert_eq!(open(dir.path()).unwrap().tip(), tip);
}

#[test]
fn reorgs_and_marks_outlive_a_restart() {
    let (dir, mut ledger) = mined(120);
    let fork = ledger.chain().at_height(10).unwrap();
    extend(&mut ledger, fork, 111, 9);
    assert_eq!(ledger.tip().height, 121);
    let (branch, of_branch) = (ledger.chain().at_height(11).unwrap(), hash(&mut ledger));
    ledger.invalidate(branch).unwrap();
    assert_eq!(hash(&mut ledger), expected(120));
    drop(ledger);
    let mut again = open(dir.path()).unwrap();
    assert_eq!(hash(&mut again), expected(120));
    let branch = again.chain().find(&again.chain().entry(branch).hash).unwrap();
    again.reconsider(branch).unwrap();
    assert_eq!(hash(&mut again), of_branch);
    drop(again);
    assert_eq!(hash(&mut open(dir.path()).unwrap()), of_branch);
}

#[test]
fn submissions_get_bip_22s_words() {
    let (_dir, mut ledger) = mined(3);
    let (tip, parent) = (ledger.chain().tip(), ledger.chain().at_height(2).unwrap());
    let good = block_on(&ledger, tip, 0, &[]);
    assert_eq!(submit(&mut ledger, good.clone()).reason(), None);
    assert_eq!(submit(&mut ledger, good).reason().as_deref(), Some("duplicate"));
    let side = block_on(&ledger, parent, 1, &[]);
    assert_eq!(submit(&mut ledger, side).reason().as_deref(), Some("inconclusive"));
    let entry = ledger.chain().tip_entry();
    let greedy = seal(entry, vec![coinbase(5, 0, 51 * COIN)]);
    assert_eq!(submit(&mut ledger, greedy.clone()).reason().as_deref(), Some("bad-cb-amount"));
    assert_eq!(submit(&mut ledger, greedy).reason().as_deref(), Some("duplicate-invalid"));
}

#[test]
fn neither_a_small_cache_nor_the_way_of_flushing_changes_what_is_stored() {
    for table_from in [0, 4, usize::MAX] {
        let dir = tempfile::tempdir().unwrap();
        let store = StoreOptions { table_from, ..StoreOptions::default() };
        let options = LedgerOptions { coins_cache: 400, store, ..LedgerOptions::default() };
        let open = || Ledger::open(dir.path(), Network::Regtest, Policy::default(), options).unwrap();
        let mut ledger = open();
        let genesis = ledger.chain().tip();
        extend(&mut ledger, genesis, 120, 0);
        assert_eq!(hash(&mut ledger), expected(120), "tables from {table_from} coins on");
        // Dropped as if killed: what came since is in the log.
        let tip = ledger.chain().tip();
        extend(&mut ledger, tip, 3, 0);
        drop(ledger);
        let mut again = open();
        assert_eq!(hash(&mut again), expected(123), "tables from {table_from} coins on");
        // Coins that lie in tables are taken out again.
        let fork = again.chain().at_height(60).unwrap();
        extend(&mut again, fork, 64, 9);
        let branch = hash(&mut again);
        assert_ne!(branch, expected(124));
        again.close().unwrap();
        assert_eq!(hash(&mut open()), branch, "tables from {table_from} coins on");
    }
}

/// A coinbase as Bitcoin Core 31 makes it (`node/miner.cpp`), in a block with these transactions.
fn cores_block(ledger: &Ledger, script: &Script, transactions: Vec<Transaction>) -> Block {
    let entry = ledger.chain().tip_entry();
    let height = entry.height + 1;
    let mut coinbase = coinbase(height, 0, block_subsidy(height, 150).to_sat());
    let script_sig = Builder::new().push_int(height.into());
    let input = &mut coinbase.input[0];
    input.script_sig = if height <= 16 { script_sig.push_int(0) } else { script_sig }.into_script();
    input.sequence = Sequence(u32::MAX - 1);
    coinbase.lock_time = LockTime::from_consensus(height - 1);
    coinbase.output[0].script_pubkey = script.to_owned();
    let mut all = vec![coinbase];
    all.extend(transactions);
    let commitment = witness_commitment_script(&all, &[0; 32]);
    all[0].output.push(TxOut { value: Amount::ZERO, script_pubkey: commitment });
    all[0].input[0].witness.push([0; 32]);
    seal(entry, all)
}

/// The chain of Bitcoin Core's `feature_utxo_set_hash.py`, and the hashes that it asserts.
#[test]
fn the_hashes_of_a_known_chain_are_cores() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path()).unwrap();
    let mut internal = [0; 32];
    internal[31] = 1;
    let internal = XOnlyPublicKey::from_slice(&internal).unwrap();
    let leaf = ScriptBuf::from_bytes(vec![0x51]);
    let spend_info = TaprootBuilder::new().add_leaf(0, leaf.clone()).unwrap().finalize(SECP256K1, internal).unwrap();
    let wallet = ScriptBuf::new_p2tr_tweaked(spend_info.output_key());
    let node = Address::from_str("mjTkW3DjgyZck4KbiRusZsqTgaYTxdSz6z").unwrap().assume_checked().script_pubkey();
    for height in 1..=100 {
        let block = cores_block(&ledger, if height == 1 { &wallet } else { &node }, vec![]);
        assert_eq!(submit(&mut ledger, block).reason(), None);
    }
    let first = ledger.read_block(ledger.chain().at_height(1).unwrap()).unwrap();
    let mut transfer = spend(&[OutPoint { txid: first.txids()[0], vout: 0 }], &[50 * COIN - 31_200]);
    transfer.output[0].script_pubkey = wallet.clone();
    transfer.input[0].sequence = Sequence::ZERO;
    let control = spend_info.control_block(&(leaf.clone(), LeafVersion::TapScript)).unwrap().serialize();
    transfer.input[0].witness = Witness::from_slice(&[leaf.as_bytes(), &control]);
    let block = cores_block(&ledger, &wallet, vec![transfer]);
    assert_eq!(submit(&mut ledger, block).reason(), None);

    ledger.flush().unwrap();
    let shown = |kind| {
        let mut hash = coins_stats(kind, ledger.coins_snapshot().iter()).unwrap().hash.unwrap();
        hash.reverse();
        hex::encode(hash)
    };
    assert_eq!(shown(CoinsHash::Serialized), "396058cfd7f3b4c05dcdfaf360be9986d859d2c8315082d3aadda6d2d16add25");
    assert_eq!(shown(CoinsHash::MuHash), "97f341d4226cb4451dd9da2856759fb97659cfc238a0b8d5452e64af6032bd3d");
}

#[tokio::test]
async fn the_thread_answers_publishes_and_stops() {
    let (dir, ledger) = mined(5);
    let (driver, handle) = Driver::start(ledger);
    let mut tips = handle.tips();
    assert_eq!(handle.tip().height, 5);
    let mine = |ledger: &mut Ledger| {
        let tip = ledger.chain().tip();
        let block = block_on(ledger, tip, 0, &[]);
        submit(ledger, block).reason()
    };
    let waiting = tokio::spawn(async move { tips.wait_for(|tip| tip.height == 6).await.map(|tip| *tip) });
    assert_eq!(handle.run(mine).await.unwrap(), None);
    assert_eq!(waiting.await.unwrap().unwrap(), handle.tip());
    let report = handle.coins_stats(CoinsHash::MuHash).await.unwrap();
    assert_eq!((report.height, report.stats.txouts, report.stats.total_amount), (6, 6, 300 * COIN));
    let time = handle.run(|ledger| (ledger.set_mock_time(Some(77)), ledger.now()).1).await.unwrap();
    assert_eq!(time, 77);
    driver.stop().await.unwrap();
    assert_eq!(handle.run(|_| ()).await, Err(Stopped));
    handle.stopped().await;
    assert_eq!(open(dir.path()).unwrap().tip(), handle.tip());
}
