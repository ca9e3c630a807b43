//! The cells of the matrix: every axis, their names, and which of their combinations no protocol leads to.

use std::fmt;

use channeld::transactions::CommitmentFormat;

use crate::contract::{Add, BOTH, Side, State};

/// The feerate of all commitments.
pub const FEERATE: u32 = 300;
/// The broadcaster's current commitment; all before it are revoked.
pub const CURRENT: u64 = 7;

/// Which commitment of the broadcaster confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The newest; no other is signed.
    Current,
    /// The current one although the next is signed; the broadcaster has not received it.
    Pending,
    /// The next: received, and the one before it not yet revoked.
    Next,
    RevokedByOne,
    RevokedLongAgo,
}

/// How far the HTLC has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Irrevocably committed.
    Committed,
    /// Added, and not on every commitment yet.
    Adding,
    /// Fulfilled (where the preimage is known) or failed, and not gone from every commitment yet.
    Removing,
    /// On a commitment of who offered it, and on none of who receives it.
    OffererOnly,
}

/// When its receiver learns the preimage: before the close, after it, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Before,
    After,
    Never,
}

/// What becomes of the branch that the claim is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reorg {
    None,
    /// The block of the claim goes.
    One,
    /// All blocks from the commitment's on go, and the mempool forgets what was in them.
    Beyond,
}

/// Who comes first where preimage and expiry allow both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    Receiver,
    Offerer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub format: CommitmentFormat,
    pub broadcaster: Side,
    pub which: Which,
    /// By the broadcaster.
    pub offered: bool,
    pub dust: bool,
    pub known: Known,
    /// Whether the commitment confirms after the HTLC's expiry.
    pub expired: bool,
    pub moment: Moment,
    pub reorg: Reorg,
    pub first: Option<First>,
}

/// What a commitment says of the HTLC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Absent,
    Present,
    Removed,
}

/// What all commitments say of the HTLC.
#[derive(Clone, Copy, Debug)]
pub struct Stages {
    pub confirmed: Stage,
    /// The broadcaster's current one.
    pub current: Stage,
    /// The broadcaster's next one, where it is signed.
    pub next: Option<Stage>,
    /// The other side's.
    pub other: Stage,
}

/// Every combination of the axes: a cell, or the reason why there is none.
pub fn all() -> Vec<Result<Cell, &'static str>> {
    use loops::product;
    let mut cells = Vec::new();
    for (format, broadcaster, which, offered) in product(
        &[CommitmentFormat::StaticRemotekey, CommitmentFormat::Anchors],
        &BOTH,
        &[Which::Current, Which::Pending, Which::Next, Which::RevokedByOne, Which::RevokedLongAgo],
        &[true, false],
    ) {
        for (dust, known, expired, moment) in product(
            &[false, true],
            &[Known::Before, Known::After, Known::Never],
            &[false, true],
            &[Moment::Committed, Moment::Adding, Moment::Removing, Moment::OffererOnly],
        ) {
            for reorg in [Reorg::None, Reorg::One, Reorg::Beyond] {
                let cell =
                    Cell { format, broadcaster, which, offered, dust, known, expired, moment, reorg, first: None };
                match cell.impossible() {
                    Some(reason) => cells.push(Err(reason)),
                    None if cell.is_race() => cells
                        .extend([First::Receiver, First::Offerer].map(|first| Ok(Cell { first: Some(first), ..cell }))),
                    None => cells.push(Ok(cell)),
                }
            }
        }
    }
    cells
}

/// Nested loops over four axes.
mod loops {
    pub fn product<A: Copy, B: Copy, C: Copy, D: Copy>(a: &[A], b: &[B], c: &[C], d: &[D]) -> Vec<(A, B, C, D)> {
        let mut all = Vec::new();
        for a in a {
            for b in b {
                for c in c {
                    all.extend(d.iter().map(|d| (*a, *b, *c, *d)));
                }
            }
        }
        all
    }
}

impl Cell {
    /// Why no run of the protocol leads there.
    fn impossible(&self) -> Option<&'static str> {
        if self.moment == Moment::OffererOnly {
            return Some("an HTLC comes to its receiver's commitment first and leaves it last (BOLT 2)");
        }
        if self.moment == Moment::Removing && self.known == Known::After {
            return Some("who removes an HTLC gave its preimage or gave it up: nothing is learned later");
        }
        None
    }

    pub fn is_revoked(&self) -> bool {
        matches!(self.which, Which::RevokedByOne | Which::RevokedLongAgo)
    }

    /// The number of the commitment that confirms.
    pub fn number(&self) -> u64 {
        match self.which {
            Which::Current | Which::Pending => CURRENT,
            Which::Next => CURRENT + 1,
            Which::RevokedByOne => CURRENT - 1,
            Which::RevokedLongAgo => 1,
        }
    }

    pub fn offerer(&self) -> Side {
        if self.offered { self.broadcaster } else { self.broadcaster.other() }
    }

    pub fn receiver(&self) -> Side {
        self.offerer().other()
    }

    /// Whether the commitment that confirms has an output for the HTLC.
    pub fn has_output(&self) -> bool {
        self.stages().confirmed == Stage::Present && !self.dust
    }

    /// Whether both sides can take it in the next block.
    fn is_race(&self) -> bool {
        self.has_output() && !self.is_revoked() && self.known == Known::Before && self.expired
    }

    /// Whether a cheater can take the HTLC to its second stage before anybody punishes it.
    pub fn cheats(&self) -> bool {
        let can = if self.offered { self.expired } else { self.known == Known::Before };
        self.is_revoked() && self.has_output() && can
    }

    /// BOLT 2, "Normal Operation": an update is on the receiver's next commitment first, then on its current one, then on the
    /// sender's next, then on the sender's. A removal goes the other way round, for its sender is who received the HTLC.
    pub fn stages(&self) -> Stages {
        use Stage::{Absent, Present, Removed};
        let of = |confirmed, current, next, other| Stages { confirmed, current, next, other };
        match (self.which, self.moment, self.offered) {
            (Which::Current, Moment::Adding, true) => of(Absent, Absent, None, Present),
            (Which::Current, Moment::Adding, false) => of(Present, Present, None, Absent),
            (Which::Current, Moment::Removing, true) => of(Removed, Removed, None, Present),
            (Which::Current, Moment::Removing, false) => of(Present, Present, None, Removed),
            (Which::Current, ..) => of(Present, Present, None, Present),

            (Which::Pending, Moment::Adding, true) => of(Absent, Absent, Some(Present), Present),
            (Which::Pending, Moment::Adding, false) => of(Absent, Absent, Some(Present), Absent),
            (Which::Pending, Moment::Removing, true) => of(Present, Present, Some(Removed), Present),
            (Which::Pending, Moment::Removing, false) => of(Present, Present, Some(Removed), Removed),
            (Which::Pending, ..) => of(Present, Present, Some(Present), Present),

            (Which::Next, Moment::Adding, true) => of(Present, Absent, Some(Present), Present),
            (Which::Next, Moment::Adding, false) => of(Present, Absent, Some(Present), Absent),
            (Which::Next, Moment::Removing, true) => of(Removed, Present, Some(Removed), Present),
            (Which::Next, Moment::Removing, false) => of(Removed, Present, Some(Removed), Removed),
            (Which::Next, ..) => of(Present, Present, Some(Present), Present),

            (Which::RevokedByOne, Moment::Adding, true) => of(Absent, Absent, None, Present),
            (Which::RevokedByOne, Moment::Adding, false) => of(Absent, Present, None, Absent),
            (Which::RevokedByOne, Moment::Removing, true) => of(Present, Removed, None, Present),
            (Which::RevokedByOne, Moment::Removing, false) => of(Present, Present, None, Removed),
            (Which::RevokedByOne, ..) => of(Present, Present, None, Present),

            (Which::RevokedLongAgo, Moment::Adding, true) => of(Absent, Absent, None, Present),
            (Which::RevokedLongAgo, Moment::Adding, false) => of(Absent, Present, None, Absent),
            // It was removed from everywhere since; a row of history is all that is left.
            (Which::RevokedLongAgo, Moment::Removing, _) => of(Present, Removed, None, Removed),
            (Which::RevokedLongAgo, ..) => of(Present, Present, None, Present),
        }
    }

    /// The HTLC, where the commitment confirms at `height`.
    pub fn add(&self, height: u32) -> Add {
        let expiry = if self.expired { height - 1 } else { height + 3 };
        Add { by: self.offerer(), id: 5, msat: if self.dust { 300_400 } else { 30_000_700 }, seed: 42, expiry }
    }

    /// What a commitment of that number says, whoever's it is.
    pub fn state(&self, number: u64, stage: Stage, height: u32) -> State {
        let alice = match number {
            1 => 500_000_123,
            6 => 550_000_456,
            8 => 620_000_001,
            _ => 600_000_789,
        };
        let (add, mut balances) = (self.add(height), [alice, 1_000_000_000 - alice]);
        let is_paid = stage == Stage::Removed && self.known == Known::Before;
        if stage == Stage::Present || is_paid {
            balances[self.offerer() as usize] -= add.msat;
        }
        if is_paid {
            balances[self.receiver() as usize] += add.msat;
        }
        let htlcs = if stage == Stage::Present { vec![add] } else { Vec::new() };
        State { number, balances, htlcs, feerate: FEERATE }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}/{:?}", self.format, self.broadcaster, self.which)?;
        write!(f, "/{}", if self.offered { "Offered" } else { "Received" })?;
        write!(f, "/{}/Preimage{:?}", if self.dust { "Dust" } else { "Output" }, self.known)?;
        write!(f, "/{}/{:?}", if self.expired { "Expired" } else { "Unexpired" }, self.moment)?;
        write!(f, "/Reorg{:?}", self.reorg)?;
        self.first.map_or(Ok(()), |first| write!(f, "/{first:?}First"))
    }
}
