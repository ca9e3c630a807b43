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
        match self {
            Self::Defined => Self::Started,
            Self::Started if votes < THRESHOLD => Self::Started,
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
}
