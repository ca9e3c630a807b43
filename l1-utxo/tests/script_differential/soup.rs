//! Scripts that mean nothing: random opcodes on random stacks, half of them with a little sense for the stack's depth.

use rand::Rng as _;
use rand::seq::IndexedRandom as _;

use super::Rng;
use super::signing::KEYS;

/// A push of these bytes in the usual encoding; numbers are pushed as bytes too.
pub fn push(data: &[u8]) -> Vec<u8> {
    let head = match data.len() {
        length @ 0..=0x4b => vec![length as u8],
        length @ 0x4c..=0xff => vec![0x4c, length as u8],
        length @ 0x100..=0xffff => vec![0x4d, length as u8, (length >> 8) as u8],
        length => [&[0x4e][..], &(length as u32).to_le_bytes()].concat(),
    };
    [head.as_slice(), data].concat()
}

/// A push in any encoding there is.
pub fn any_push(data: &[u8], rng: &mut Rng) -> Vec<u8> {
    match (data, rng.random_range(0..12)) {
        ([number @ 1..=16], 0..=5) => vec![0x50 + number],
        ([0x81], 0..=5) => vec![0x4f],
        (_, 6) if data.len() <= 0xff => [&[0x4c, data.len() as u8][..], data].concat(),
        (_, 7) => [&[0x4d][..], &(data.len() as u16).to_le_bytes(), data].concat(),
        (_, 8) => [&[0x4e][..], &(data.len() as u32).to_le_bytes(), data].concat(),
        _ => push(data),
    }
}

/// Something to push.
pub fn element(rng: &mut Rng) -> Vec<u8> {
    let mut random = |length: usize| {
        let mut bytes = vec![0; length];
        rng.fill(bytes.as_mut_slice());
        bytes
    };
    match random(1)[0] % 24 {
        0..=3 => vec![],
        4..=11 => vec![random(1)[0] % 20 + 1],
        12 => vec![0x80],
        13 => vec![0x81],
        14..=16 => random(4),
        17 => random(5),
        18 => KEYS[usize::from(random(1)[0] % 20)].public_key().serialize().to_vec(),
        19 => random(32),
        20 => random(71),
        21 => vec![7; 520],
        22 if random(1)[0] < 40 => vec![7; 521],
        _ => vec![0, 0],
    }
}

/// Opcodes that need this many elements, and how many they leave more or less.
const KNOWN: &[(u8, usize, isize)] = &[
    (0x61, 0, 0),
    (0x6d, 2, -2),
    (0x6e, 2, 2),
    (0x6f, 3, 3),
    (0x70, 4, 2),
    (0x71, 6, 0),
    (0x72, 4, 0),
    (0x74, 0, 1),
    (0x75, 1, -1),
    (0x76, 1, 1),
    (0x77, 2, -1),
    (0x78, 2, 1),
    (0x7b, 3, 0),
    (0x7c, 2, 0),
    (0x7d, 2, 1),
    (0x82, 1, 1),
    (0x87, 2, -1),
    (0x8b, 1, 0),
    (0x8c, 1, 0),
    (0x8f, 1, 0),
    (0x90, 1, 0),
    (0x91, 1, 0),
    (0x92, 1, 0),
    (0x93, 2, -1),
    (0x94, 2, -1),
    (0x9a, 2, -1),
    (0x9b, 2, -1),
    (0x9c, 2, -1),
    (0x9e, 2, -1),
    (0x9f, 2, -1),
    (0xa0, 2, -1),
    (0xa1, 2, -1),
    (0xa2, 2, -1),
    (0xa3, 2, -1),
    (0xa4, 2, -1),
    (0xa5, 3, -2),
    (0xa6, 1, 0),
    (0xa7, 1, 0),
    (0xa8, 1, 0),
    (0xa9, 1, 0),
    (0xaa, 1, 0),
    (0xab, 0, 0),
    (0xb0, 0, 0),
    (0xb1, 1, 0),
    (0xb2, 1, 0),
    (0xb9, 0, 0),
];

/// A script for a stack of `depth` elements, which it leaves with one true element on top if nothing fails before.
pub fn script(depth: usize, rng: &mut Rng) -> Vec<u8> {
    let mut script = Vec::new();
    if rng.random_bool(0.15) {
        script.resize(rng.random_range(0..60), 0);
        rng.fill(script.as_mut_slice());
        return script;
    }
    let mut depth = depth as isize;
    let careless = rng.random_bool(0.2);
    for _ in 0..*[1, 5, 12, 30, 150].choose(rng).expect("not empty") {
        let (opcode, needs, change) = *KNOWN.choose(rng).expect("not empty");
        if careless && rng.random_bool(0.1) {
            script.push(rng.random_range(0x4f..=0xc0));
        } else if needs as isize <= depth && depth < 60 {
            script.push(opcode);
            depth += change;
        } else {
            // Small numbers, so that arithmetic has a chance.
            let number = rng.random_range(0..=16);
            script.push(if number == 0 { 0 } else { 0x50 + number });
            depth += 1;
        }
    }
    script.extend(std::iter::repeat_n(0x75, depth.max(0) as usize));
    script.push(0x51);
    script
}
