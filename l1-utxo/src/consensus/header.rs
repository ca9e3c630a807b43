//! The rules of a header (Core: `CheckBlockHeader`, `ContextualCheckBlockHeader`).

use bitcoin::BlockHash;
use bitcoin::block::Header;

use super::error::HeaderError;
use super::pow::{self, Timing};
use crate::params::Params;

/// Blocks whose median time a header's time must be above.
pub const MEDIAN_TIME_SPAN: usize = 11;

/// What a header is checked against: its parent, and the clock.
#[derive(Clone, Copy, Debug)]
pub struct HeaderContext {
    /// The parent's height, time and bits.
    pub parent: Timing,
    /// The median time of the parent and the ten blocks before it.
    pub median_time_past: u32,
    /// What `pow::next_work_required` asks for.
    pub required_bits: bitcoin::CompactTarget,
    /// Our clock, in seconds since 1970.
    pub now: u64,
}

/// The rule that needs no context: the header proves the work that it claims.
pub fn check_header(header: &Header, hash: BlockHash, params: &Params) -> Result<(), HeaderError> {
    if pow::check_proof_of_work(hash, header.bits, params) { Ok(()) } else { Err(HeaderError::HighHash) }
}

/// The rules that need the parent, in Core's order.
pub fn check_header_in_context(header: &Header, context: &HeaderContext, params: &Params) -> Result<(), HeaderError> {
    if header.bits != context.required_bits {
        return Err(HeaderError::BadDiffBits);
    }
    if header.time <= context.median_time_past {
        return Err(HeaderError::TimeTooOld);
    }
    if is_timewarp(header, context.parent, params) {
        return Err(HeaderError::TimewarpAttack);
    }
    if u64::from(header.time) > context.now.saturating_add(u64::from(params.max_future_block_time)) {
        return Err(HeaderError::TimeTooNew);
    }
    // BIP 34, 66 and 65: versions 2, 3 and 4.
    let (version, height, from) = (header.version.to_consensus(), context.parent.height + 1, params.activation);
    if [(2, from.bip34), (3, from.dersig), (4, from.cltv)]
        .iter()
        .any(|(least, from)| version < *least && height >= *from)
    {
        return Err(HeaderError::BadVersion(version));
    }
    Ok(())
}

/// BIP 94, for the first block of a retarget period.
fn is_timewarp(header: &Header, parent: Timing, params: &Params) -> bool {
    let Some(max_timewarp) = params.max_timewarp else { return false };
    let starts_period = (parent.height + 1).is_multiple_of(params.difficulty_adjustment_interval());
    starts_period && i64::from(header.time) < i64::from(parent.time) - i64::from(max_timewarp)
}

/// The median of the times of a block and up to ten before it: element n/2 of the sorted list (Core: `GetMedianTimePast`).
pub fn median_time(times: impl Iterator<Item = u32>) -> u32 {
    let mut sorted = [0; MEDIAN_TIME_SPAN];
    let mut count = 0;
    for (slot, time) in sorted.iter_mut().zip(times) {
        *slot = time;
        count += 1;
    }
    let sorted = &mut sorted[..count];
    sorted.sort_unstable();
    sorted.get(count / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Activation, Network};
    use bitcoin::CompactTarget;
    use bitcoin::block::Version;

    fn reason(network: Network, height: u32, edit: impl FnOnce(&mut Header)) -> String {
        let params = network.params();
        let bits = params.pow_limit_bits;
        let context = HeaderContext {
            parent: Timing { height: height - 1, time: 1_000, bits },
            median_time_past: 900,
            required_bits: bits,
            now: 2_000,
        };
        let mut header = params.genesis.header;
        (header.version, header.bits, header.time) = (Version::from_consensus(4), bits, 1_010);
        edit(&mut header);
        check_header_in_context(&header, &context, params)
            .map_or_else(|e| e.reject_reason().into_owned(), |()| String::new())
    }

    #[test]
    fn each_rule_refuses_in_order() {
        use Network::{Devnet, Regtest};
        assert_eq!(reason(Regtest, 1, |_| ()), "");
        assert_eq!(reason(Regtest, 1, |h| h.bits = CompactTarget::from_consensus(0x207f_fffe)), "bad-diffbits");
        assert_eq!(reason(Regtest, 1, |h| h.time = 900), "time-too-old");
        assert_eq!(reason(Regtest, 1, |h| h.time = 901), "");
        assert_eq!(reason(Regtest, 1, |h| h.time = 2_000 + 7_200), "");
        assert_eq!(reason(Regtest, 1, |h| h.time = 2_000 + 7_201), "time-too-new");
        assert_eq!(reason(Devnet, 1, |h| h.time = 2_060), "");
        assert_eq!(reason(Devnet, 1, |h| h.time = 2_061), "time-too-new");
        assert_eq!(reason(Regtest, 1, |h| h.version = Version::from_consensus(3)), "bad-version(0x00000003)");
        assert_eq!(reason(Regtest, 1, |h| h.version = Version::from_consensus(-1)), "bad-version(0xffffffff)");
        assert_eq!(reason(Devnet, 60, |h| h.time = 989), "time-timewarp-attack");
        assert_eq!(reason(Devnet, 60, |h| h.time = 990), "");
        assert_eq!(reason(Devnet, 61, |h| h.time = 989), "");
        assert_eq!(reason(Regtest, 144, |h| h.time = 901), "");
    }

    #[test]
    fn old_versions_are_refused_from_the_height_of_their_fork_on() {
        let mut params = Network::Regtest.params().clone();
        params.activation = Activation { bip34: 5, dersig: 6, cltv: 7, ..Activation::default() };
        let bits = params.pow_limit_bits;
        for (height, least) in [(1, 1), (4, 1), (5, 2), (6, 3), (7, 4), (8, 4)] {
            let parent = Timing { height: height - 1, time: 1_000, bits };
            let context = HeaderContext { parent, median_time_past: 900, required_bits: bits, now: 2_000 };
            for version in 1..=4 {
                let mut header = params.genesis.header;
                (header.version, header.bits, header.time) = (Version::from_consensus(version), bits, 1_010);
                let verdict = check_header_in_context(&header, &context, &params);
                assert_eq!(verdict.is_ok(), version >= least, "version {version} at {height}");
            }
        }
    }

    #[test]
    fn median_is_the_upper_middle() {
        assert_eq!(median_time([5].into_iter()), 5);
        assert_eq!(median_time([9, 1].into_iter()), 9);
        assert_eq!(median_time([3, 1, 2].into_iter()), 2);
        assert_eq!(median_time((0..100).rev()), 94);
    }
}
