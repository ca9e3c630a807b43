//! The store against crashes at every byte, checkpoints at every turn, and directories that are not its own.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn options() -> Options {
    Options { identity: "regtest:02aa".to_owned(), segment_bytes: 64 << 10, checkpoint_bytes: 1 << 20 }
}

fn record(number: u64) -> TurnRecord {
    TurnRecord {
        delta: vec![number as u8; 40 + (number as usize * 37) % 300],
        rows: vec![(vec![COLD_ROWS, number as u8], Some(vec![number as u8; (number as usize * 911) % 9_000]))],
        history: vec![
            HistoryItem { stream: Stream::Events, index: number * 2, bytes: vec![number as u8; 20] },
            HistoryItem { stream: Stream::Payments, index: number, bytes: Vec::new() },
        ],
    }
}

fn open(path: &Path) -> (Store, Recovered) {
    Store::open(path, &options()).expect("the directory is sound")
}

fn only_segment(path: &Path) -> PathBuf {
    let mut segments: Vec<_> = fs::read_dir(path.join("journal"))
        .expect("the journal is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.to_string_lossy().contains("journal-"))
        .collect();
    segments.sort();
    segments.pop().expect("there is one")
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let folder = TempDir::new().expect("a folder");
    let (mut store, recovered) = open(folder.path());
    assert!(recovered.tail.is_empty() && recovered.rows.is_empty());
    let records: Vec<_> = (1..=400).map(record).collect();
    for (number, record) in (1..).zip(&records) {
        assert_eq!(store.commit(record).expect("the disk works"), Lsn(number));
    }
    drop(store);
    let (store, recovered) = open(folder.path());
    assert_eq!(recovered.tail.iter().map(|(_, record)| record.clone()).collect::<Vec<_>>(), records);
    assert_eq!((store.durable(), recovered.epoch, recovered.torn), (Lsn(400), 2, false));
}

#[test]
fn a_torn_record_is_cut_wherever_it_tears() {
    let folder = TempDir::new().expect("a folder");
    let (mut store, _) = open(folder.path());
    for number in 1..=3 {
        store.commit(&record(number)).expect("the disk works");
    }
    let end = store.journal.end();
    store.commit(&record(4)).expect("the disk works");
    let whole = store.journal.end();
    drop(store);
    let segment = only_segment(folder.path());
    let good = fs::read(&segment).expect("readable");
    for cut in (end..whole).step_by(5) {
        let mut torn = good.clone();
        torn[cut as usize..].fill(0);
        if torn == good {
            continue;
        }
        fs::write(&segment, &torn).expect("writable");
        let (store, recovered) = open(folder.path());
        assert_eq!(recovered.tail.len(), 3, "cut at {cut}");
        assert_eq!(recovered.torn, torn[end as usize..].iter().any(|byte| *byte != 0), "cut at {cut}");
        drop(store);
    }
}

#[test]
fn a_damaged_record_before_a_whole_one_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let (mut store, _) = open(folder.path());
    let first = store.journal.end();
    for number in 1..=3 {
        store.commit(&record(number)).expect("the disk works");
    }
    drop(store);
    let file = OpenOptions::new().write(true).open(only_segment(folder.path())).expect("writable");
    file.write_all_at(&[0xff], first + 30).expect("writable");
    let refused = Store::open(folder.path(), &options()).err().expect("later records are there");
    assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
}

#[test]
fn a_missing_segment_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let (mut store, _) = open(folder.path());
    for number in 1..=300 {
        store.commit(&record(number)).expect("the disk works");
    }
    store.checkpoint(Lsn(300), Vec::new()).expect("it starts");
    store.finish_checkpoint().expect("it ends");
    drop(store);
    fs::remove_file(only_segment(folder.path())).expect("it was there");
    let refused = Store::open(folder.path(), &options()).err().expect("the journal is gone");
    assert!(matches!(refused, StoreError::JournalMissing { .. }), "{refused}");
}

#[test]
fn foreign_used_and_newer_directories_are_refused() {
    let folder = TempDir::new().expect("a folder");
    let (store, _) = open(folder.path());
    assert!(matches!(Store::open(folder.path(), &options()).err(), Some(StoreError::InUse(_))));
    drop(store);
    let other = Options { identity: "devnet:03bb".to_owned(), ..options() };
    assert!(matches!(Store::open(folder.path(), &other).err(), Some(StoreError::Foreign { .. })));
    let owner = folder.path().join("owner.json");
    let text = fs::read_to_string(&owner).expect("readable").replace("\"format\": 1", "\"format\": 2");
    fs::write(&owner, text).expect("writable");
    assert!(matches!(Store::open(folder.path(), &options()).err(), Some(StoreError::Format { found: 2, .. })));
    fs::remove_file(&owner).expect("it was there");
    assert!(matches!(Store::open(folder.path(), &options()).err(), Some(StoreError::Corrupt { .. })));
}

#[test]
fn a_checkpoint_frees_the_journal_and_keeps_everything() {
    let folder = TempDir::new().expect("a folder");
    let (mut store, _) = open(folder.path());
    let mut rows = BTreeMap::new();
    for number in 1..=600_u64 {
        store.commit(&record(number)).expect("the disk works");
        rows.insert(vec![1, number as u8], vec![number as u8; number as usize * 23]);
    }
    let hot = rows.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
    assert!(store.checkpoint(Lsn(600), hot).expect("it starts"));
    store.finish_checkpoint().expect("it ends");
    store.commit(&record(601)).expect("the disk works");
    let reader = store.reader();
    let check = |reader: &Reader| {
        assert_eq!(reader.history_after(Stream::Events, 1_195, 10).expect("readable").len(), 4);
        let newest = reader.history_before(Stream::Events, u64::MAX, 3).expect("readable");
        assert_eq!(newest.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1_202, 1_200, 1_198]);
        assert_eq!(reader.history_after(Stream::Payments, 0, usize::MAX).expect("readable").len(), 601);
        assert_eq!(reader.row(&[COLD_ROWS, 601_u64 as u8]).expect("readable"), record(601).rows[0].1);
        assert_eq!(reader.rows(&[COLD_ROWS]).expect("readable").len(), 256);
        assert_eq!(reader.last_index(Stream::Events), 1_202);
    };
    check(&reader);
    assert!(fs::read_dir(folder.path().join("journal")).expect("readable").count() <= 2, "one segment and a spare");
    drop((store, reader));
    let (store, recovered) = open(folder.path());
    assert_eq!(recovered.rows, rows);
    assert_eq!(recovered.tail, [(Lsn(601), record(601))]);
    check(&store.reader());
}

#[test]
fn pages_follow_each_other_across_disk_and_memory() {
    let folder = TempDir::new().expect("a folder");
    let (mut store, _) = open(folder.path());
    let mut expected = BTreeMap::new();
    for number in 0..60_u64 {
        let key = [&[0x90][..], &number.to_be_bytes()].concat();
        let value = (number % 7 != 3).then(|| vec![number as u8; (number as usize * 400) % 9_000]);
        let rows = vec![(key.clone(), Some(vec![1])), ([&[0x91][..], &key].concat(), Some(vec![2]))];
        store.commit(&TurnRecord { rows, ..TurnRecord::default() }).expect("the disk works");
        if number == 40 {
            let durable = store.durable();
            store.checkpoint(durable, Vec::new()).expect("it starts");
            store.finish_checkpoint().expect("it ends");
        }
        let record = TurnRecord { rows: vec![(key.clone(), value.clone())], ..TurnRecord::default() };
        store.commit(&record).expect("the disk works");
        value.map(|value| expected.insert(key, value));
    }
    let reader = store.reader();
    for descending in [false, true] {
        let (mut found, mut from): (Vec<_>, Option<Vec<u8>>) = (Vec::new(), None);
        loop {
            let page = RowPage { prefix: &[0x90], from: from.as_deref(), limit: 7, descending };
            let rows = reader.page(&page).expect("readable");
            let Some((last, _)) = rows.last() else { break };
            from = Some(last.clone());
            found.extend(rows);
        }
        let mut all: Vec<_> = expected.clone().into_iter().collect();
        if descending {
            all.reverse();
        }
        assert_eq!(found, all, "descending: {descending}");
    }
}

#[test]
fn an_interrupted_checkpoint_is_finished_at_start() {
    let folder = TempDir::new().expect("a folder");
    let (mut store, _) = open(folder.path());
    store.commit(&record(1)).expect("the disk works");
    let rows = vec![(vec![1], Some(vec![9; 10_000])), (vec![2], None)];
    fs::write(folder.path().join("checkpoint"), checkpoint::encode(Lsn(1), &rows)).expect("writable");
    drop(store);
    let (_, recovered) = open(folder.path());
    assert_eq!(recovered.rows, BTreeMap::from([(vec![1], vec![9; 10_000])]));
    assert!(recovered.tail.is_empty());
    assert!(!folder.path().join("checkpoint").exists());
}

#[test]
fn a_shrinking_row_leaves_no_piece_behind() {
    let folder = TempDir::new().expect("a folder");
    let (mut store, _) = open(folder.path());
    for length in [20_000, 5_000, 0, 4_000, 4_001] {
        let lsn = store.commit(&TurnRecord::default()).expect("the disk works");
        store.checkpoint(lsn, vec![(vec![1], Some(vec![7; length]))]).expect("it starts");
        store.finish_checkpoint().expect("it ends");
        assert_eq!(store.reader().row(&[1]).expect("readable"), Some(vec![7; length]));
        assert_eq!(store.reader().rows(&[]).expect("readable").len(), 1);
    }
    let lsn = store.commit(&TurnRecord::default()).expect("the disk works");
    store.checkpoint(lsn, vec![(vec![1], None)]).expect("it starts");
    store.finish_checkpoint().expect("it ends");
    assert_eq!(store.reader().row(&[1]).expect("readable"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Commits, checkpoints and restarts in any order leave what a plain map and list would hold.
    #[test]
    fn the_store_equals_its_model(steps in prop::collection::vec((0_u8..8, 0_u8..6, 0_usize..9_000), 1..40)) {
        let folder = TempDir::new().expect("a folder");
        let (mut store, _) = open(folder.path());
        let mut cold: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut events = 0;
        for (kind, key, length) in steps {
            match kind {
                0 => {
                    store.finish_checkpoint().expect("it ends");
                    drop(store);
                    store = open(folder.path()).0;
                }
                1 => {
                    let durable = store.durable();
                    store.checkpoint(durable, Vec::new()).expect("it starts");
                }
                _ => {
                    events += 1;
                    let (key, value) = (vec![COLD_ROWS, key], (kind != 2).then(|| vec![kind; length]));
                    match &value {
                        Some(value) => cold.insert(key.clone(), value.clone()),
                        None => cold.remove(&key),
                    };
                    let item = HistoryItem { stream: Stream::Events, index: events, bytes: vec![kind] };
                    let record = TurnRecord { delta: Vec::new(), rows: vec![(key, value)], history: vec![item] };
                    store.commit(&record).expect("the disk works");
                }
            }
            let reader = store.reader();
            prop_assert_eq!(reader.rows(&[COLD_ROWS]).expect("readable"), cold.clone());
            let found = reader.history_after(Stream::Events, 0, usize::MAX).expect("readable");
            prop_assert_eq!(found.iter().map(|(index, _)| *index).collect::<Vec<_>>(), (1..=events).collect::<Vec<_>>());
        }
    }

    /// No bytes make the decoders panic.
    #[test]
    fn any_bytes_decode_or_not(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = codec::decode_turn(&bytes);
        let _ = checkpoint::decode(&bytes);
        let _ = segment::parse_header(b"id", &bytes);
        let _ = segment::has_record_after(b"id", &bytes, 0, 0);
    }
}
