//! Spends at a limit: one below, on it, one above.

use rand::Rng as _;

use super::Rng;
use super::soup;

/// A script and the stack it runs on, at a limit of legacy scripts or of all.
pub fn make(rng: &mut Rng) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut near = |limit: usize| limit - 1 + rng.random_range(0..3usize);
    match near(1) {
        0 => match near(1) {
            0 => operations(near(201), 0),
            1 => operations(near(191), 10),
            _ => multisig_keys(near(20)),
        },
        1 => match near(1) {
            0 => stack(near(1_000), 0),
            1 => stack(near(600), 400),
            _ => {
                let count = near(1_000);
                (vec![0x75; count - 1], vec![vec![1]; count])
            }
        },
        _ => match near(1) {
            0 => script_size(near(10_000)),
            1 => element(near(520)),
            _ => ([[0x60, 0x75].repeat(near(201)), vec![0x51]].concat(), vec![]),
        },
    }
}

fn operations(count: usize, keys: u8) -> (Vec<u8>, Vec<Vec<u8>>) {
    if keys == 0 {
        return ([&[0x51][..], &vec![0x61; count]].concat(), vec![]);
    }
    // A multisig of no signatures and many keys; each key counts.
    let multisig = [&[0x00, 0x00][..], &vec![0x51; keys.into()], &[0x50 + keys, 0xae]].concat();
    ([multisig, vec![0x61; count - 1]].concat(), vec![])
}

fn multisig_keys(keys: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    ([&[0x00, 0x00][..], &vec![0x51; keys], &[0x01, keys as u8, 0xae]].concat(), vec![])
}

/// So many elements at the same time, some of them on the other stack, and all but one dropped again.
fn stack(count: usize, aside: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let fill = [[0x51, 0x6b].repeat(aside), vec![0x51; count]].concat();
    ([fill, vec![0x75; count - 1]].concat(), vec![])
}

fn script_size(size: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut script = [soup::push(&[7; 520]), vec![0x75]].concat().repeat(19);
    let rest = size - script.len() - 4;
    script.extend([&[0x4d][..], &((rest - 1) as u16).to_le_bytes(), &vec![7; rest - 1], &[0x75, 0x51]].concat());
    (script, vec![])
}

fn element(size: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    if size.is_multiple_of(2) {
        return (vec![0x75, 0x51], vec![vec![7; size]]);
    }
    ([soup::push(&vec![7; size]), vec![0x75, 0x51]].concat(), vec![])
}

/// A tapscript that checks signatures for keys of a type to come, on a witness that pays for them or falls a little short.
pub fn validation_budget(rng: &mut Rng) -> (Vec<u8>, Vec<Vec<u8>>) {
    let checks = rng.random_range(3..=5usize);
    let check = [0x51, 0x01, 0x07, 0xac, 0x75];
    // With a control block of 33 bytes: 50 are free, 39 of the witness are not script or padding, 5 are one check's.
    let exact = 45 * checks - 89;
    let padding = exact - 10 + rng.random_range(0..20usize);
    ([&check.repeat(checks)[..], &[0x75, 0x51]].concat(), vec![vec![7; padding]])
}
