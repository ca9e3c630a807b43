//! What can happen to a data directory: every file of it cut, bent, lost, swapped or foreign. Either the node says what is
//! wrong and what to do, and has written over nothing, or its chain and its coins are right to the satoshi.
#![allow(clippy::unwrap_used)] // helpers of tests are tests, too

mod chain;
mod damage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use chain::{Reference, State};
use damage::Damage;
use l1_utxo::check::check;
use l1_utxo::params::Network;

static REFERENCE: LazyLock<Reference> = LazyLock::new(|| Reference::new(0));
/// A chain of its own from height 1 on.
static OTHER: LazyLock<Reference> = LazyLock::new(|| Reference::new(7));

/// A scratch copy of a directory.
struct Copy {
    home: tempfile::TempDir,
}

impl Copy {
    fn of(from: &Path) -> Self {
        let home = tempfile::tempdir().unwrap();
        copy_dir(from, home.path());
        Self { home }
    }

    fn path(&self) -> &Path {
        self.home.path()
    }

    /// All files of the block log.
    fn log(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = files_in(&self.path().join("blocks"));
        files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
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

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_in(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// What the node makes of a directory: its state, or its words.
fn start(dir: &Path) -> Result<State, String> {
    // A coin that cannot be read stops the process: here it unwinds.
    std::panic::catch_unwind(|| {
        let mut ledger = chain::open(dir).map_err(|error| error.to_string())?;
        State::try_of(&mut ledger)
    })
    .unwrap_or_else(|panic| Err(panic.downcast_ref::<String>().expect("our own words").clone()))
}

fn verdict(dir: &Path, level: u8) -> Result<(), String> {
    check(dir, Network::Regtest, level, &mut |_| ()).map(|_| ()).map_err(|error| error.to_string())
}

/// Judges one damage; tells whether the node noticed.
fn judge(reference: &Reference, copy: &Copy, what: &str) -> bool {
    let before = copy.log();
    let checked = verdict(copy.path(), 3);
    assert!(copy.log() == before, "{what}: the check changed the log");
    match start(copy.path()) {
        Ok(state) => {
            assert!(reference.knows(&state), "{what}: the node started with other coins: {state:?}");
            if checked.is_ok() {
                assert!(state.height >= reference.flushed, "{what}: lost more than was unflushed, unseen: {state:?}");
            }
            false
        }
        Err(error) => {
            assert!(checked.is_err(), "{what}: the node refuses what the check took for well: {error}");
            let advice = ["restore", "remove", "put back", "put it back", "--data-dir", "make room"];
            assert!(advice.iter().any(|word| error.contains(word)), "{what}: says not what to do: {error}");
            assert!(copy.log() == before, "{what}: refused, but wrote over the log");
            true
        }
    }
}

#[test]
fn every_file_damaged_in_every_way() {
    let reference = &*REFERENCE;
    let (mut noticed, mut all) = (0, 0);
    for file in files_in(reference.dir()) {
        let name = file.strip_prefix(reference.dir()).unwrap().to_owned();
        if matches!(name.to_str(), Some("lock" | "network" | "mempool.dat" | "fee_estimates.dat")) {
            continue;
        }
        for damage in Damage::ALL {
            // Nothing but a hand makes folders of files, and the database does not expect it.
            if *damage == Damage::IsFolder && !name.starts_with("blocks") {
                continue;
            }
            let copy = Copy::of(reference.dir());
            if damage.apply(&copy.path().join(&name)) {
                all += 1;
                noticed += u32::from(judge(reference, &copy, &format!("{damage:?} of {}", name.display())));
            }
        }
    }
    println!("{noticed} of {all} damages refused, the others without effect on chain and coins");
    assert!(noticed * 4 > all, "{noticed} of {all}");
}

/// Segments swapped, of another chain, of another network, of a format to come, missing in the middle.
#[test]
fn segments_that_do_not_belong() {
    let reference = &*REFERENCE;
    let other = &*OTHER;
    let segment = |n: usize| PathBuf::from(format!("blocks/{n:05}.log"));
    let count = files_in(&reference.dir().join("blocks")).len();
    assert!(count >= 3, "{count} segments");
    let swap = |copy: &Copy, a: usize, b: usize| {
        let (a, b, aside) = (copy.path().join(segment(a)), copy.path().join(segment(b)), copy.path().join("aside"));
        std::fs::rename(&a, &aside).unwrap();
        std::fs::rename(&b, &a).unwrap();
        std::fs::rename(&aside, &b).unwrap();
    };
    let copy = Copy::of(reference.dir());
    swap(&copy, 0, 1);
    assert!(judge(reference, &copy, "the first two swapped"));
    let copy = Copy::of(reference.dir());
    swap(&copy, count - 2, count - 1);
    assert!(judge(reference, &copy, "the last two swapped"));
    for n in 0..count {
        let copy = Copy::of(reference.dir());
        std::fs::copy(other.dir().join(segment(n)), copy.path().join(segment(n))).unwrap();
        assert!(judge(reference, &copy, &format!("segment {n} of another chain")));
        let copy = Copy::of(reference.dir());
        std::fs::remove_file(copy.path().join(segment(n))).unwrap();
        assert!(judge(reference, &copy, &format!("segment {n} missing")));
        for (place, value, words) in
            [(8, 2, "has format 2"), (12, 0xff, "no segment of this network"), (0, b'x', "no segment")]
        {
            let copy = Copy::of(reference.dir());
            let mut bytes = std::fs::read(copy.path().join(segment(n))).unwrap();
            bytes[place] = value;
            std::fs::write(copy.path().join(segment(n)), bytes).unwrap();
            let error = start(copy.path()).unwrap_err();
            assert!(error.contains(words), "{error}");
            assert!(judge(reference, &copy, words));
        }
    }
}

/// Coins and index of another chain, of an older time, or none at all.
#[test]
fn coins_that_do_not_belong() {
    let reference = &*REFERENCE;
    let replace = |copy: &Copy, from: &Path| {
        std::fs::remove_dir_all(copy.path().join("chainstate")).unwrap();
        copy_dir(&from.join("chainstate"), &copy.path().join("chainstate"));
    };
    let copy = Copy::of(reference.dir());
    replace(&copy, OTHER.dir());
    assert!(judge(reference, &copy, "coins of another chain"));

    // Older ones are brought up to date from the blocks.
    let copy = Copy::of(reference.dir());
    replace(&copy, reference.early());
    assert!(!judge(reference, &copy, "older coins"));
    assert_eq!(start(copy.path()), Ok(reference.last()));

    // Newer ones rest on blocks that are not here.
    let copy = Copy::of(reference.early());
    replace(&copy, reference.dir());
    assert!(judge(reference, &copy, "newer coins"));

    let copy = Copy::of(reference.dir());
    std::fs::remove_dir_all(copy.path().join("chainstate")).unwrap();
    assert!(verdict(copy.path(), 1).unwrap_err().contains("holds no chain"));
    assert_eq!(start(copy.path()), Ok(reference.last()), "made anew from the blocks");
}

/// One coin more, less or worth more, in a database that is well otherwise.
#[test]
fn the_check_finds_a_single_wrong_coin() {
    let reference = &*REFERENCE;
    assert_eq!(verdict(reference.dir(), 4), Ok(()));
    for wrong in chain::WRONG_COINS {
        let copy = Copy::of(reference.dir());
        chain::commit_wrong_coin(copy.path(), *wrong);
        assert_eq!(verdict(copy.path(), 2), Ok(()));
        for level in [3, 4] {
            let error = verdict(copy.path(), level).unwrap_err();
            assert!(error.contains("the coins are not those of the chain") && error.contains("remove"), "{error}");
        }
    }
}

/// What a crash leaves is no damage: the check says what the next start will do.
#[test]
fn what_a_crash_leaves_is_well() {
    let reference = &*REFERENCE;
    let copy = Copy::of(reference.dir());
    let last = files_in(&copy.path().join("blocks")).pop().unwrap();
    let mut bytes = std::fs::read(&last).unwrap();
    let whole = bytes.len();
    bytes.extend([1, 2, 3]);
    std::fs::write(&last, &bytes).unwrap();
    let report = check(copy.path(), Network::Regtest, 4, &mut |_| ()).unwrap();
    assert_eq!((report.torn, report.best.1), (3, reference.flushed));
    assert!(report.unflushed > 0 && report.records > 0 && report.coins.is_some());
    assert_eq!(std::fs::read(&last).unwrap(), bytes, "not cut by the check");
    assert_eq!(start(copy.path()), Ok(reference.last()));
    assert!(std::fs::read(&last).unwrap().len() >= whole);
}

/// A record that is bent while whole ones follow is damage also where nothing was flushed yet.
#[test]
fn damage_in_what_was_not_flushed_is_not_cut() {
    let reference = &*REFERENCE;
    let last = files_in(&reference.dir().join("blocks")).pop().unwrap();
    let name = last.strip_prefix(reference.dir()).unwrap();
    let bytes = std::fs::read(&last).unwrap();
    let start_of_tail = reference.tail_offset();
    // In its length, in its checksum, in its kind, in its content.
    for place in [0, 2, 5, 8, 9, 60] {
        let copy = Copy::of(reference.dir());
        let mut bent = bytes.clone();
        bent[start_of_tail + place] ^= 0x10;
        std::fs::write(copy.path().join(name), &bent).unwrap();
        assert!(judge(reference, &copy, &format!("byte {place} of the first unflushed record")));
    }
}
