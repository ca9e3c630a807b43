//! One row of a table: a rule, how to break it and nothing else, and the nearest lawful block.

use bitcoin::hashes::Hash;
use bitcoin::{Block, TxMerkleNode};
use l1_utxo::chain::{CoinsHash, Source};
use l1_utxo::consensus::merkle::merkle_root;

use super::world::{Draft, World};

/// Changes a draft; coins that it needs are given to the world.
pub type Edit = fn(&mut World, &mut Draft);

/// What a refusal leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing: the header is not stored.
    Nothing,
    /// The header, not marked: the body was not its own.
    Header,
    /// The header, marked invalid for good.
    Mark,
}

pub struct Rule {
    pub name: &'static str,
    /// Core's reject string.
    pub reason: &'static str,
    pub left: Left,
    pub break_it: Edit,
    pub keep_it: Edit,
}

impl Rule {
    /// A rule whose breach leaves nothing behind.
    pub const fn unstored(name: &'static str, reason: &'static str, break_it: Edit, keep_it: Edit) -> Self {
        Self { name, reason, left: Left::Nothing, break_it, keep_it }
    }

    /// Submits both blocks to a chain each.
    pub fn judge(&self) {
        self.judge_broken();
        let mut world = World::grown();
        let block = self.draft(&mut world, self.keep_it).seal();
        let accepted = world.submit(block);
        assert!(accepted.is_ok(), "{}: the neighbour is refused: {accepted:?}", self.name);
        assert_eq!(Ok(world.chain.tip()), accepted, "{}", self.name);
    }

    fn draft(&self, world: &mut World, edit: Edit) -> Draft {
        let mut draft = Draft::on_tip(world);
        edit(world, &mut draft);
        draft
    }

    fn judge_broken(&self) {
        let mut world = World::grown();
        let draft = self.draft(&mut world, self.break_it);
        let block = draft.seal();
        let (tip, before) = (world.chain.tip(), world.coins(CoinsHash::MuHash));
        assert_eq!(reason(&mut world, &block), self.reason, "{}", self.name);
        assert_eq!(world.chain.tip(), tip, "{}", self.name);
        assert_eq!(world.coins(CoinsHash::MuHash), before, "{}", self.name);

        let known = world.chain.find(&block.block_hash());
        let left = match known.map(|id| world.chain.entry(id).is_failed) {
            None => Left::Nothing,
            Some(false) => Left::Header,
            Some(true) => Left::Mark,
        };
        assert_eq!(left, self.left, "{}", self.name);
        if left != Left::Mark {
            assert_eq!(reason(&mut world, &block), self.reason, "{}: the second time", self.name);
            return;
        }
        assert_eq!(reason(&mut world, &block), "duplicate-invalid", "{}", self.name);
        let mut child = Draft::on(&world, known.unwrap(), 0);
        child.header.prev_blockhash = block.block_hash();
        let child = child.seal();
        assert_eq!(reason(&mut world, &child), "bad-prevblk", "{}", self.name);
        let refused = world.chain.accept_header(&child.header, world.now, Source::Requested);
        assert_eq!(refused.unwrap_err().reject_reason(), "bad-prevblk", "{}", self.name);
    }
}

/// Why the block is refused; empty if it is not.
pub fn reason(world: &mut World, block: &Block) -> String {
    world.submit(block.clone()).map_or_else(|error| error.reject_reason().into_owned(), |_| String::new())
}

/// The root over what a block holds now.
pub fn root_of(block: &Block) -> TxMerkleNode {
    let leaves = block.txdata.iter().map(|tx| tx.compute_txid().to_byte_array()).collect();
    TxMerkleNode::from_byte_array(merkle_root(leaves).root)
}
