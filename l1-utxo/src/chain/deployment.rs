//! BIP 9 where it still lives: regtest's "testdummy", a soft fork without rules that every block votes on, from genesis and
//! without end. Core: `versionbits.cpp`, `DEPLOYMENT_TESTDUMMY`.

use bitcoin::block::Header;

/// The bit that votes for it.
pub const TESTDUMMY_BIT: u32 = 28;
/// Blocks that are counted together, and how many of them must vote.
pub const PERIOD: u32 = 144;
pub const THRESHOLD: u32 = 108;
const TOP_BITS: u32 = 0x2000_0000;
const TOP_MASK: u32 = 0xe000_0000;

/// How far it has come, for the block after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deployment {
    /// In the first period.
    #[default]
    Defined,
    /// Blocks vote.
    Started,
    /// Enough have voted.
    LockedIn,
    /// It holds.
    Active,
}

impl Deployment {
    /// After a period in which so many blocks voted.
    pub(super) const fn next(self, votes: u32) -> Self {
        self.after(votes >= THRESHOLD)
    }

    const fn after(self, is_enough: bool) -> Self {
        match self {
            Self::Defined => Self::Started,
            Self::Started if !is_enough => Self::Started,
            Self::Started => Self::LockedIn,
            Self::LockedIn | Self::Active => Self::Active,
        }
    }

    /// The version of a block that votes as it should.
    pub const fn version(self) -> i32 {
        let vote = match self {
            Self::Started | Self::LockedIn => 1 << TESTDUMMY_BIT,
            Self::Defined | Self::Active => 0,
        };
        (TOP_BITS | vote).cast_signed()
    }
}

/// Whether a block votes.
pub(super) fn votes(header: &Header) -> bool {
    let version = header.version.to_consensus().cast_unsigned();
    version & TOP_MASK == TOP_BITS && version >> TESTDUMMY_BIT & 1 == 1
}

/// Bits that a version may vote with.
const BITS: usize = 29;

/// The bits of soft forks that blocks have activated and we do not know: for each block from genesis on its version and the
/// one that we would have given it. `period` blocks are counted together, and three quarters of them must vote.
pub fn unknown_rules(versions: impl Iterator<Item = (i32, i32)>, period: u32) -> Vec<usize> {
    let threshold = period * 3 / 4;
    let (mut votes, mut states) = ([0; BITS], [Deployment::Defined; BITS]);
    let mut counted = 0;
    for (version, ours) in versions {
        let unknown = version.cast_unsigned() & !ours.cast_unsigned();
        if version.cast_unsigned() & TOP_MASK == TOP_BITS && unknown != 0 {
            votes.iter_mut().enumerate().for_each(|(bit, votes)| *votes += unknown >> bit & 1);
        }
        counted += 1;
        if counted == period {
            for (state, votes) in states.iter_mut().zip(&votes) {
                *state = state.after(*votes >= threshold);
            }
            (votes, counted) = ([0; BITS], 0);
        }
    }
    (0..BITS).filter(|bit| states[*bit] == Deployment::Active).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_from_state_to_state_by_votes() {
        use Deployment::{Active, Defined, LockedIn, Started};
        let mut state = Defined;
        for (count, wanted) in [(0, Started), (107, Started), (108, LockedIn), (0, Active), (0, Active)] {
            state = state.next(count);
            assert_eq!(state, wanted);
        }
        assert_eq!(Defined.version(), 0x2000_0000);
        assert_eq!((Started.version(), LockedIn.version()), (0x3000_0000, 0x3000_0000));
        assert_eq!(Active.version(), 0x2000_0000);
    }

    #[test]
    fn what_others_activate_is_noticed_a_period_later() {
        let plain = TOP_BITS.cast_signed();
        let of = |bit: u32, count: u32| {
            let voting = (TOP_BITS | 1 << bit).cast_signed();
            (0..PERIOD).map(move |n| (if n < count { voting } else { plain }, plain))
        };
        let table = [
            // The first period counts for nothing.
            (vec![of(3, PERIOD), of(3, 0), of(3, 0)], vec![]),
            (vec![of(3, 0), of(3, THRESHOLD - 1), of(3, 0)], vec![]),
            (vec![of(3, 0), of(3, THRESHOLD)], vec![]),
            (vec![of(3, 0), of(3, THRESHOLD), of(5, THRESHOLD)], vec![3]),
            (vec![of(3, 0), of(3, THRESHOLD), of(5, THRESHOLD), of(0, 0)], vec![3, 5]),
        ];
        for (periods, wanted) in table {
            assert_eq!(unknown_rules(periods.into_iter().flatten(), PERIOD), wanted);
        }
        // What we vote for ourselves is known, and other kinds of versions vote for nothing.
        let voting = (TOP_BITS | 1 << 3).cast_signed();
        for (version, ours) in [(voting, voting), (1 << 3, plain), (-1, plain)] {
            let blocks = std::iter::repeat_n((version, ours), 3 * PERIOD as usize);
            assert!(unknown_rules(blocks, PERIOD).is_empty());
        }
    }
}
