//! The house rules that a machine can check: floors, sizes, room docs, forbidden words (DESIGN, HOUSE, STYLE).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A room may import only rooms on a lower floor of its crate.
const CHANNELD: &[(u8, &[&str])] = &[
    (0, &["units"]),
    (1, &["keys", "wire"]),
    (2, &["transactions", "onion"]),
    (3, &["commitment", "graph"]),
    (4, &["channel", "onchain", "payment", "router", "wallet"]),
    (5, &["node"]),
    (6, &["store", "chain", "peer"]),
    (7, &["gossip"]),
    (8, &["driver"]),
    (9, &["config", "rpc"]),
    (10, &["daemon", "main"]),
];
const L1_UTXO: &[(u8, &[&str])] = &[
    (0, &["params"]),
    (1, &["consensus"]),
    (2, &["chain"]),
    (3, &["mempool", "estimator"]),
    (4, &["mining", "sync"]),
    (6, &["store"]),
    (7, &["driver", "check"]),
    (8, &["net"]),
    (9, &["config"]),
    (10, &["rpc"]),
    (11, &["node", "main"]),
];
/// Rooms up to this floor are pure.
const LAST_PURE_FLOOR: u8 = 5;
/// STYLE: never more, comments and blank lines apart, nor tests at the end of a file.
const MOST_CODE_LINES: usize = 600;
/// STYLE: 10 is where it is discussed.
const MOST_FILES: usize = 14;
const FORBIDDEN_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "misc", "manager", "types"];
const FORBIDDEN_WORDS: &[&str] = &["todo!(", "unimplemented!(", "dbg!(", "#[ignore", "FIXME", "XXX"];

struct File {
    path: PathBuf,
    /// The code before the tests.
    code: Vec<String>,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in the workspace").to_owned()
}

fn files_in(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the folder is readable").path();
        if path.is_dir() {
            files_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn read(path: PathBuf) -> File {
    let text = fs::read_to_string(&path).expect("source is text");
    let is_test = path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
    let code: Vec<String> = if is_test { Vec::new() } else { text.lines().map(str::to_owned).collect() };
    let end = code.windows(2).position(|pair| pair[0].trim() == "#[cfg(test)]" && pair[1].contains("mod tests {"));
    let code = code.into_iter().take(end.unwrap_or(usize::MAX)).filter(|line| is_code(line)).collect();
    File { path, code, text }
}

fn is_code(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with("//")
}

fn sources(of: &str) -> Vec<File> {
    let mut found = Vec::new();
    files_in(&root().join(of), &mut found);
    found.sort();
    found.into_iter().map(read).collect()
}

fn all_sources() -> Vec<File> {
    ["l1-utxo", "channeld", "proto", "wallet-cli", "tests"].into_iter().flat_map(sources).collect()
}

/// The room of a file: the first folder or file below `src`.
fn room_of(path: &Path, source: &Path) -> String {
    let inside = path.strip_prefix(source).expect("it was found there");
    let first = inside.components().next().expect("it has a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn rooms_named_in(line: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        if line[..at]
            .chars()
            .next_back()
            .is_some_and(|before| before.is_alphanumeric() || before == '_' || before == '$')
        {
            continue;
        }
        let rest = &line[at + "crate::".len()..];
        let name: String = rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
        rooms.push(name);
    }
    rooms
}

fn check_floors(package: &str, floors: &[(u8, &[&str])], broken: &mut Vec<String>) {
    let floor_of: BTreeMap<&str, u8> =
        floors.iter().flat_map(|(floor, rooms)| rooms.iter().map(move |room| (*room, *floor))).collect();
    let source = root().join(package).join("src");
    for file in sources(&format!("{package}/src")) {
        let room = room_of(&file.path, &source);
        if room == "lib" {
            continue;
        }
        let Some(floor) = floor_of.get(room.as_str()) else {
            broken.push(format!("{}: the room `{room}` has no floor in tests/tidy.rs", file.path.display()));
            continue;
        };
        for line in &file.code {
            for target in rooms_named_in(line) {
                let Some(below) = floor_of.get(target.as_str()) else { continue };
                if target != room && below >= floor {
                    broken.push(format!(
                        "{}: `{room}` (floor {floor}) imports `{target}` (floor {below})",
                        file.path.display()
                    ));
                }
            }
        }
    }
}

fn check_room_docs(package: &str, floors: &[(u8, &[&str])], broken: &mut Vec<String>) {
    for (floor, rooms) in floors {
        for room in *rooms {
            let folder = root().join(package).join("src").join(room);
            let path = if folder.is_dir() { folder.join("mod.rs") } else { folder.with_extension("rs") };
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let docs = text.lines().take_while(|line| line.starts_with("//!")).count();
            if folder.is_dir() && !(3..=12).contains(&docs) {
                broken.push(format!(
                    "{}: a room begins with 3 to 8 lines of what it knows and never does",
                    path.display()
                ));
            }
            if docs == 0 {
                broken.push(format!("{}: it says nothing about itself", path.display()));
            }
            let denies = text.contains("#![deny(clippy::disallowed_methods, clippy::disallowed_types)]");
            if *floor <= LAST_PURE_FLOOR && !denies {
                broken.push(format!("{}: a pure room denies the disallowed calls", path.display()));
            }
        }
    }
}

fn report(broken: &[String]) {
    assert!(broken.is_empty(), "{} broken:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn rooms_import_downwards_only() {
    let mut broken = Vec::new();
    check_floors("channeld", CHANNELD, &mut broken);
    check_floors("l1-utxo", L1_UTXO, &mut broken);
    report(&broken);
}

#[test]
fn rooms_say_what_they_are_and_pure_ones_are_pure() {
    let mut broken = Vec::new();
    check_room_docs("channeld", CHANNELD, &mut broken);
    check_room_docs("l1-utxo", L1_UTXO, &mut broken);
    report(&broken);
}

#[test]
fn files_are_short_and_have_names() {
    let mut broken = Vec::new();
    let mut files_of_room: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for file in all_sources() {
        let lines = match file.code.len() {
            // A file of tests has no code before them: it is held to the same size.
            0 => file.text.lines().filter(|line| is_code(line)).count(),
            code => code,
        };
        if lines > MOST_CODE_LINES {
            broken.push(format!("{}: {lines} code lines", file.path.display()));
        }
        let name = file.path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if FORBIDDEN_NAMES.contains(&name.as_str()) {
            broken.push(format!("{}: the name says nothing", file.path.display()));
        }
        *files_of_room.entry(file.path.parent().map(Path::to_owned).unwrap_or_default()).or_default() += 1;
    }
    for (room, count) in files_of_room {
        if count > MOST_FILES {
            broken.push(format!("{}: {count} files in one room", room.display()));
        }
    }
    report(&broken);
}

#[test]
fn nothing_is_left_undone() {
    let mut broken = Vec::new();
    for file in all_sources().iter().filter(|file| !file.path.ends_with("tests/tidy.rs")) {
        for word in FORBIDDEN_WORDS {
            if file.text.contains(word) {
                broken.push(format!("{}: {word}", file.path.display()));
            }
        }
    }
    report(&broken);
}

/// docs/spec.md names the test of each rule of the BOLTs: each is there, and no rule is without one.
#[test]
fn the_table_of_the_specification_names_tests_that_exist() {
    let text = fs::read_to_string(root().join("docs/spec.md")).expect("the table is there");
    let mut sources: BTreeMap<PathBuf, String> = BTreeMap::new();
    let (mut broken, mut named) = (Vec::new(), 0);
    for row in text.lines().filter(|line| line.starts_with("| ") && line.contains("::")) {
        for name in row.split('`').filter(|part| part.contains(".rs::")) {
            let (path, test) = name.split_once("::").expect("it was looked for");
            let below = if path.starts_with("tests/") { "" } else { "channeld/src" };
            let source = sources
                .entry(root().join(below).join(path))
                .or_insert_with_key(|path| fs::read_to_string(path).unwrap_or_default());
            named += 1;
            if !source.contains(&format!("fn {test}(")) {
                broken.push(format!("docs/spec.md: {name} is not there"));
            }
        }
    }
    // Whatever is in a table is a rule, but for the heads and the count of lines.
    let is_rule = |line: &&str| line.starts_with("| ") && !line.contains(".rs::");
    for row in text.lines().filter(is_rule) {
        let is_head = ["| § |", "| lines |", "| rule |", "| | ", "| BOLT "].iter().any(|head| row.starts_with(head));
        if !is_head {
            broken.push(format!("docs/spec.md: no test in {row}"));
        }
    }
    assert!(named > 300, "{named} tests are named");
    report(&broken);
}

#[test]
fn the_daemon_never_knows_the_chain_package() {
    for package in ["channeld", "wallet-cli", "proto"] {
        let manifest = fs::read_to_string(root().join(package).join("Cargo.toml")).expect("a manifest");
        assert!(!manifest.contains("l1-utxo.workspace"), "{package} meets the chain through JSON-RPC only");
    }
}
