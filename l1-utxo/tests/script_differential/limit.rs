//! Spends at a limit: one below, on it, one above.

use rand::Rng as _;

use super::Rng;
use super::soup;

/// A script and the stack it runs on, which go beyond a limit half of the time.
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
            _ => (vec![0x75; 999], vec![vec![1]; near(1_000)]),
        },
        _ => match near(1) {
            0 => script_size(near(10_000)),
            1 => element(near(520)),
            _ => validation_budget(near(150), near(3)),
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
    let fill = [vec![0x51, 0x6b].repeat(aside), vec![0x51; count]].concat();
    ([fill, vec![0x75; count - 1]].concat(), vec![])
}

fn script_size(size: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut script = [soup::push(&[7; 520]), vec![0x75]].concat().repeat(19);
    let rest = size - script.len() - 4;
    script.extend([&[0x4d][..], &((rest - 1) as u16).to_le_bytes(), &vec![7; rest - 1], &[0x75, 0x51]].concat());
    (script, vec![])
}

fn element(size: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    if size % 2 == 0 {
        return (vec![0x75, 0x51], vec![vec![7; size]]);
    }
    ([soup::push(&vec![7; size]), vec![0x75, 0x51]].concat(), vec![])
}

/// Checks of signatures for keys of a type to come, on a witness that pays for about three.
fn validation_budget(padding: usize, checks: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let check = [0x51, 0x01, 0x07, 0xac, 0x75];
    // 50 free, 2 lengths and the count, the control block with its length: 87 in all, then the script and the padding.
    let padding = (padding + 50 * checks).saturating_sub(150 + 87 + 2 + 5 * checks + 2);
    ([&check.repeat(checks)[..], &[0x75, 0x51]].concat(), vec![vec![7; padding]])
}
