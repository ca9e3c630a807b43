//! The coinbase: its script (BIP 34), its amount, and the halvings down to zero.

use bitcoin::{Amount, ScriptBuf};
use l1_utxo::consensus::HashedBlock;
use l1_utxo::consensus::block::check_block_in_context;
use l1_utxo::params::Network;

use super::rule::{Edit, Left, Rule, reason};
use super::world::{COIN, Draft, HEIGHT, World, spend};

const fn rule(name: &'static str, reason: &'static str, left: Left, break_it: Edit, keep_it: Edit) -> Rule {
    Rule { name, reason, left, break_it, keep_it }
}

/// The minimal push of the height that the tables' blocks have.
const PUSH: [u8; 2] = [1, HEIGHT as u8 + 1];

pub const RULES: &[Rule] = &[
    rule(
        "its script has at least 2 bytes",
        "bad-cb-length",
        Left::Nothing,
        |_, draft| script_sig(draft, &PUSH[..1]),
        |_, draft| script_sig(draft, &PUSH),
    ),
    rule(
        "its script has at most 100 bytes",
        "bad-cb-length",
        Left::Nothing,
        |_, draft| script_sig(draft, &[&PUSH[..], &[0xff; 99]].concat()),
        |_, draft| script_sig(draft, &[&PUSH[..], &[0xff; 98]].concat()),
    ),
    rule(
        "its script begins with the height",
        "bad-cb-height",
        Left::Mark,
        |_, draft| script_sig(draft, &[1, HEIGHT as u8]),
        |_, draft| script_sig(draft, &PUSH),
    ),
    rule(
        "with the height's shortest push",
        "bad-cb-height",
        Left::Mark,
        |_, draft| script_sig(draft, &[2, PUSH[1], 0]),
        |_, draft| script_sig(draft, &[PUSH[0], PUSH[1], 0]),
    ),
    rule(
        "which is no OP_PUSHDATA",
        "bad-cb-height",
        Left::Mark,
        |_, draft| script_sig(draft, &[0x4c, 1, PUSH[1]]),
        |_, draft| script_sig(draft, &[PUSH[0], PUSH[1], 0x4c]),
    ),
    rule(
        "it takes at most the subsidy",
        "bad-cb-amount",
        Left::Mark,
        |_, draft| draft.coinbase().output[0].value = Amount::from_sat(50 * COIN + 1),
        |_, draft| draft.coinbase().output[0].value = Amount::from_sat(50 * COIN),
    ),
    rule(
        "and the fees",
        "bad-cb-amount",
        Left::Mark,
        |world, draft| take_fees(world, draft, 50 * COIN + 4),
        |world, draft| take_fees(world, draft, 50 * COIN + 3),
    ),
    rule(
        "in all its outputs together",
        "bad-cb-amount",
        Left::Mark,
        |_, draft| draft.coinbase().output.push(super::world::output([0x6a], 1)),
        |_, draft| {
            draft.coinbase().output[0].value -= Amount::from_sat(1);
            draft.coinbase().output.push(super::world::output([0x6a], 1));
        },
    ),
    rule(
        "less is fine",
        "bad-cb-amount",
        Left::Mark,
        |_, draft| draft.coinbase().output[0].value = Amount::from_sat(51 * COIN),
        |_, draft| draft.coinbase().output[0].value = Amount::ZERO,
    ),
];

fn script_sig(draft: &mut Draft, script: &[u8]) {
    draft.coinbase().input[0].script_sig = ScriptBuf::from_bytes(script.to_vec());
}

fn take_fees(world: &mut World, draft: &mut Draft, sat: u64) {
    let coins = [world.give_anyone(10), world.give_anyone(10)];
    draft.spend(&coins[..1], 8);
    draft.spend(&coins[1..], 9);
    draft.coinbase().output[0].value = Amount::from_sat(sat);
}

/// BIP 34 at every height where the form of the push changes.
#[test]
fn the_height_is_pushed_in_its_shortest_form() {
    let genesis = &Network::Regtest.params().genesis;
    let judge = |height: u32, script: &[u8]| {
        let mut coinbase = spend(&[bitcoin::OutPoint::null()], 0);
        coinbase.input[0].script_sig = ScriptBuf::from_bytes(script.to_vec());
        let block = bitcoin::Block { header: genesis.header, txdata: vec![coinbase] };
        check_block_in_context(&HashedBlock::new(block), height, 0, l1_utxo::params::Network::Regtest.params())
            .map_err(|error| error.reject_reason())
    };
    let forms: &[(u32, &[u8])] = &[
        (1, &[0x51]),
        (16, &[0x60]),
        (17, &[0x01, 0x11]),
        (127, &[0x01, 0x7f]),
        (128, &[0x02, 0x80, 0x00]),
        (255, &[0x02, 0xff, 0x00]),
        (256, &[0x02, 0x00, 0x01]),
        (32_767, &[0x02, 0xff, 0x7f]),
        (32_768, &[0x03, 0x00, 0x80, 0x00]),
        (8_388_607, &[0x03, 0xff, 0xff, 0x7f]),
        (8_388_608, &[0x04, 0x00, 0x00, 0x80, 0x00]),
        (2_147_483_647, &[0x04, 0xff, 0xff, 0xff, 0x7f]),
    ];
    for (height, form) in forms {
        assert_eq!(judge(*height, form), Ok(()), "{height}");
        assert_eq!(judge(*height, &[form, &[9, 9][..]].concat()), Ok(()), "{height}");
        assert_eq!(judge(height + 1, form), Err("bad-cb-height"), "{height}");
        assert_eq!(judge(*height, &form[..form.len() - 1]), Err("bad-cb-height"), "{height}");
        assert_eq!(judge(*height, &[&[0x4c][..], form].concat()), Err("bad-cb-height"), "{height}");
    }
    // The rule begins with the first block; the genesis block says what it says.
    assert_eq!(judge(0, &[9, 9]), Ok(()));
    // Small numbers are opcodes, no pushes; negative forms and padded ones are others.
    for (height, form) in [(16, &[0x01, 0x10][..]), (1, &[0x01, 0x01]), (128, &[0x01, 0x80]), (1, &[0x01, 0x00])] {
        assert_eq!(judge(height, form), Err("bad-cb-height"), "{height}");
    }
}

#[test]
fn the_first_blocks_need_a_second_byte() {
    let mut world = World::new(Network::Regtest.params());
    for height in 1..=17u8 {
        let mut draft = Draft::on_tip(&world);
        let form = if height <= 16 { vec![0x50 + height] } else { vec![1, 17] };
        if height <= 16 {
            script_sig(&mut draft, &form);
            assert_eq!(reason(&mut world, &draft.seal()), "bad-cb-length", "{height}");
        }
        script_sig(&mut draft, &[&form[..], &[0]].concat());
        assert_eq!(reason(&mut world, &draft.seal()), "", "{height}");
    }
}

/// Regtest halves every 150 blocks; after 33 halvings a coinbase takes fees only.
#[test]
fn the_subsidy_halves_down_to_nothing() {
    let mut world = World::new(Network::Regtest.params());
    let mut supply = 0;
    for halvings in 0..=33u32 {
        let subsidy = (50 * COIN) >> halvings;
        for height in [150 * halvings, 150 * halvings + 149] {
            if height == 0 {
                continue;
            }
            while world.chain.height() + 1 < height {
                supply += Draft::on_tip(&world).coinbase().output[0].value.to_sat();
                world.extend(1);
            }
            let mut draft = Draft::on_tip(&world);
            draft.coinbase().output[0].value = Amount::from_sat(subsidy + 1);
            assert_eq!(reason(&mut world, &draft.seal()), "bad-cb-amount", "height {height}");
            draft.coinbase().output[0].value = Amount::from_sat(subsidy);
            assert_eq!(reason(&mut world, &draft.seal()), "", "height {height}");
            supply += subsidy;
        }
    }
    let mut draft = Draft::on_tip(&world);
    take_fees(&mut world, &mut draft, 4);
    assert_eq!(reason(&mut world, &draft.seal()), "bad-cb-amount");
    let mut draft = Draft::on_tip(&world);
    take_fees(&mut world, &mut draft, 3);
    assert_eq!(reason(&mut world, &draft.seal()), "");
    // The genesis block's 50 are no coin, and rounding loses the rest of 15,000.
    assert_eq!(supply, (1..150 * 34).map(|height: u32| (50 * COIN) >> (height / 150)).sum::<u64>());
    assert!(supply < 15_000 * COIN - 50 * COIN);
}
