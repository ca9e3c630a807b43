//! Peers that are none: garbage, giants, those who never finish a word. They are dropped within bounds, and nobody else
//! notices.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use bitcoin::hashes::{Hash, sha256d};
use serde_json::json;

use crate::node::{DEADLINE, Node};
use crate::peer::{address, listening, until};

const MAGIC: [u8; 4] = [0xfa, 0xbf, 0xb5, 0xda];

fn connect(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(address(node)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn frame(command: &str, payload: &[u8], length: u32) -> Vec<u8> {
    let mut frame = MAGIC.to_vec();
    let mut name = [0; 12];
    name[..command.len()].copy_from_slice(command.as_bytes());
    frame.extend_from_slice(&name);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&sha256d::Hash::hash(payload).to_byte_array()[..4]);
    frame.extend_from_slice(payload);
    frame
}

fn message(command: &str, payload: &[u8]) -> Vec<u8> {
    frame(command, payload, payload.len() as u32)
}

fn version() -> Vec<u8> {
    let mut payload = Vec::new();
    payload.extend_from_slice(&70_016i32.to_le_bytes());
    payload.extend_from_slice(&9u64.to_le_bytes());
    payload.extend_from_slice(&1_700_000_000i64.to_le_bytes());
    payload.extend_from_slice(&[0; 52]);
    payload.extend_from_slice(&77u64.to_le_bytes());
    payload.extend_from_slice(&[3, b'/', b'x', b'/']);
    payload.extend_from_slice(&0i32.to_le_bytes());
    payload.push(1);
    message("version", &payload)
}

/// Reads messages until one of this name comes; its content.
fn wait_for(stream: &mut TcpStream, command: &str) -> Vec<u8> {
    loop {
        let mut header = [0; 24];
        stream.read_exact(&mut header).unwrap();
        assert_eq!(header[..4], MAGIC);
        let length = u32::from_le_bytes(header[16..20].try_into().unwrap());
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).unwrap();
        if header[4..16].starts_with(command.as_bytes()) {
            return payload;
        }
    }
}

/// A peer that has shaken hands.
fn join(node: &Node) -> TcpStream {
    let mut stream = connect(node);
    stream.write_all(&version()).unwrap();
    wait_for(&mut stream, "verack");
    stream.write_all(&message("verack", &[])).unwrap();
    wait_for(&mut stream, "ping");
    stream
}

fn is_closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

#[test]
fn strangers_are_dropped_and_nobody_else_notices() {
    let mut node = listening(&[]);
    node.call("generatetoaddress", json!([3, crate::peer::ANYONE]));
    let mut good = join(&node);
    // Another network, at once.
    let mut stream = connect(&node);
    let mut foreign = version();
    foreign[..4].copy_from_slice(&[0xf9, 0xbe, 0xb4, 0xd9]);
    stream.write_all(&foreign).unwrap();
    is_closed(stream);
    // A giant, announced in the clear.
    let mut stream = join(&node);
    stream.write_all(&frame("block", &[], 4_000_001)).unwrap();
    is_closed(stream);
    // Wrong magic in the middle.
    let mut stream = join(&node);
    stream.write_all(&[0x55; 200]).unwrap();
    is_closed(stream);
    // Garbage from the start: it might be a key of the encrypted transport, so it is read within its bounds.
    let mut stream = connect(&node);
    // It may be closed before all is written.
    let _ = stream.write_all(&[0x55; 100_000]);
    is_closed(stream);
    // Wrong checksums, names and contents are skipped, as Core does.
    let mut stream = join(&node);
    let mut wrong = message("inv", &[0]);
    wrong[20] ^= 1;
    stream.write_all(&wrong).unwrap();
    let mut unnamed = message("ping", &[0; 8]);
    unnamed[6] = 0xff;
    stream.write_all(&unnamed).unwrap();
    stream.write_all(&message("tx", &[1, 2, 3])).unwrap();
    stream.write_all(&message("nonsense", &[1, 2, 3])).unwrap();
    stream.write_all(&message("ping", &[7; 8])).unwrap();
    assert_eq!(wait_for(&mut stream, "pong"), [7; 8]);
    // Too long a list ends it.
    let mut list = vec![0xfd];
    list.extend_from_slice(&50_001u16.to_le_bytes());
    list.extend_from_slice(&vec![1; 50_001 * 36]);
    stream.write_all(&message("inv", &list)).unwrap();
    is_closed(stream);
    // The first one is still served.
    good.write_all(&message("ping", &[9; 8])).unwrap();
    assert_eq!(wait_for(&mut good, "pong"), [9; 8]);
    assert_eq!(node.height(), 3);
}

#[test]
fn those_who_never_finish_keep_nobody_out() {
    let mut node = listening(&["--max-connections", "60"]);
    // A word that is never finished, from many.
    let drips: Vec<TcpStream> = (0..150)
        .map(|_| {
            let mut stream = connect(&node);
            stream.write_all(&MAGIC[..2]).unwrap();
            stream
        })
        .collect();
    let mut good = join(&node);
    good.write_all(&message("ping", &[9; 8])).unwrap();
    assert_eq!(wait_for(&mut good, "pong"), [9; 8]);
    assert!(node.call("getconnectioncount", json!([])).as_u64().unwrap() <= 49);
    drop(drips);
    // More that shake hands than there are places: the newest make way, the first stays.
    let crowd: Vec<TcpStream> = (0..60)
        .map(|_| {
            let mut stream = connect(&node);
            stream.write_all(&version()).unwrap();
            stream
        })
        .collect();
    until("no more than there are places", || {
        let count = node.call("getconnectioncount", json!([])).as_u64().unwrap();
        (1..=49).contains(&count)
    });
    good.write_all(&message("ping", &[8; 8])).unwrap();
    assert_eq!(wait_for(&mut good, "pong"), [8; 8]);
    drop(crowd);
}
