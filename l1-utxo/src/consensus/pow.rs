//! Proof of work: compact targets, the check itself, and Bitcoin's retarget rule (Core: `pow.cpp`, `arith_uint256.cpp`).

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, Work};

use crate::params::Params;

/// A 256-bit number, least significant limb first: just what compact targets need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct U256([u64; 4]);

impl Ord for U256 {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

impl PartialOrd for U256 {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl U256 {
    /// Zero.
    pub const ZERO: Self = Self([0; 4]);

    /// From 32 bytes, most significant first.
    pub fn from_be_bytes(bytes: &[u8; 32]) -> Self {
        let mut reversed = *bytes;
        reversed.reverse();
        Self::from_le_bytes(&reversed)
    }

    /// From 32 bytes, least significant first: how a block hash is a number.
    pub fn from_le_bytes(bytes: &[u8; 32]) -> Self {
        let mut limbs = [0; 4];
        for (limb, chunk) in limbs.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *limb = u64::from_le_bytes(*chunk);
        }
        Self(limbs)
    }

    /// Byte `index`, counted from the least significant.
    fn byte(self, index: usize) -> u8 {
        self.0[index / 8].to_le_bytes()[index % 8]
    }

    /// The product's low 256 bits, as Core's arithmetic wraps.
    fn wrapping_mul(self, factor: u32) -> Self {
        let mut carry = 0u128;
        Self(self.0.map(|limb| {
            carry += u128::from(limb) * u128::from(factor);
            let low = carry as u64;
            carry >>= 64;
            low
        }))
    }

    /// `divisor` is not zero.
    fn div(self, divisor: u32) -> Self {
        let mut remainder = 0u128;
        let mut limbs = self.0;
        for limb in limbs.iter_mut().rev() {
            let dividend = (remainder << 64) | u128::from(*limb);
            *limb = (dividend / u128::from(divisor)) as u64;
            remainder = dividend % u128::from(divisor);
        }
        Self(limbs)
    }
}

/// Why four bytes are no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompactError {
    /// The sign bit is set.
    #[error("negative target")]
    Negative,
    /// The number does not fit into 256 bits.
    #[error("target above 256 bits")]
    Overflow,
}

/// The number that a compact target stands for (Core: `arith_uint256::SetCompact`).
pub fn decode_compact(bits: CompactTarget) -> Result<U256, CompactError> {
    let bits = bits.to_consensus();
    let size = bits >> 24;
    let mantissa = bits & 0x007f_ffff;
    let shifted = if size <= 3 { mantissa >> (8 * (3 - size)) } else { mantissa };
    if shifted != 0 && bits & 0x0080_0000 != 0 {
        return Err(CompactError::Negative);
    }
    if mantissa != 0 && (size > 34 || (mantissa > 0xff && size > 33) || (mantissa > 0xffff && size > 32)) {
        return Err(CompactError::Overflow);
    }
    let mut bytes = [0; 32];
    let offset = size.saturating_sub(3) as usize;
    for (i, byte) in shifted.to_le_bytes().into_iter().enumerate() {
        // What does not fit is zero, by the check above.
        if let Some(place) = bytes.get_mut(offset + i) {
            *place = byte;
        }
    }
    Ok(U256::from_le_bytes(&bytes))
}

/// The compact form of a number, its lower digits cut (Core: `arith_uint256::GetCompact`).
pub fn encode_compact(value: U256) -> CompactTarget {
    let size = (0..32).rev().find(|&i| value.byte(i) != 0).map_or(0, |i| i + 1);
    let digit = |back: usize| size.checked_sub(back).map_or(0, |i| u32::from(value.byte(i)));
    let mantissa = digit(1) << 16 | digit(2) << 8 | digit(3);
    let size = size as u32;
    // The highest bit is the sign: a mantissa that would set it moves down one byte.
    CompactTarget::from_consensus(if mantissa & 0x0080_0000 != 0 {
        (mantissa >> 8) | (size + 1) << 24
    } else {
        mantissa | size << 24
    })
}

/// The target that `bits` stand for, if a block of this network may have it: above zero and not above the limit.
pub fn derive_target(bits: CompactTarget, params: &Params) -> Option<U256> {
    let target = decode_compact(bits).ok()?;
    (target != U256::ZERO && target <= U256::from_be_bytes(&params.pow_limit)).then_some(target)
}

/// Whether a header with this hash and these bits proves its work (Core: `CheckProofOfWork`).
pub fn check_proof_of_work(hash: BlockHash, bits: CompactTarget, params: &Params) -> bool {
    derive_target(bits, params).is_some_and(|target| U256::from_le_bytes(&hash.to_byte_array()) <= target)
}

/// The expected number of hashes for a block with these bits, which are valid (Core: `GetBlockProof`).
pub fn block_proof(bits: CompactTarget) -> Work {
    bitcoin::Target::from_compact(bits).to_work()
}

/// What the retarget rule needs to know of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Its height.
    pub height: u32,
    /// Its header's time, in seconds since 1970.
    pub time: u32,
    /// Its target.
    pub bits: CompactTarget,
}

/// The bits that the block after `last` must have; `at_height` gives an ancestor of `last` (Core: `GetNextWorkRequired`).
pub fn next_work_required(params: &Params, last: Timing, at_height: impl FnOnce(u32) -> Timing) -> CompactTarget {
    if params.no_retargeting {
        return params.pow_limit_bits;
    }
    let interval = params.difficulty_adjustment_interval();
    if !(last.height + 1).is_multiple_of(interval) {
        return last.bits;
    }
    let first = at_height(last.height + 1 - interval);
    retarget(params, first, last)
}

/// The bits for the period after the one from `first` to `last` (Core: `CalculateNextWorkRequired`).
/// BIP 94: the target starts from the first block's; all of a period have the same one here.
fn retarget(params: &Params, first: Timing, last: Timing) -> CompactTarget {
    let wanted = params.pow_target_timespan;
    let actual = i64::from(last.time) - i64::from(first.time);
    let clamped = actual.clamp(i64::from(wanted / 4), i64::from(wanted) * 4) as u32;
    scale(params, first.bits, clamped)
}

/// The target times `timespan` over the wanted one, at most the limit. `bits` were valid.
fn scale(params: &Params, bits: CompactTarget, timespan: u32) -> CompactTarget {
    let limit = U256::from_be_bytes(&params.pow_limit);
    let old = decode_compact(bits).unwrap_or(limit);
    encode_compact(old.wrapping_mul(timespan).div(params.pow_target_timespan).min(limit))
}

/// Whether the bits may go from `old` to `new` at `height`: by at most a factor of four at the end of a period, else not
/// at all (Core: `PermittedDifficultyTransition`). For headers whose ancestors are not at hand.
pub fn is_permitted_transition(params: &Params, height: u32, old: CompactTarget, new: CompactTarget) -> bool {
    if params.no_retargeting {
        return true;
    }
    if !height.is_multiple_of(params.difficulty_adjustment_interval()) {
        return old == new;
    }
    let Ok(observed) = decode_compact(new) else { return false };
    let bound = |timespan| decode_compact(scale(params, old, timespan)).unwrap_or(U256::ZERO);
    let wanted = params.pow_target_timespan;
    (bound(wanted / 4)..=bound(wanted * 4)).contains(&observed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Network;
    use bitcoin::Target;
    use proptest::prelude::*;

    fn bits(value: u32) -> CompactTarget {
        CompactTarget::from_consensus(value)
    }

    #[test]
    fn compact_forms_of_cores_unit_tests() {
        let cases: [(u32, u32); 9] = [
            (0, 0),
            (0x0012_3456, 0),
            (0x0100_3456, 0),
            (0x0112_3456, 0x0112_0000),
            (0x0212_3456, 0x0212_3400),
            (0x0312_3456, 0x0312_3456),
            (0x0412_3456, 0x0412_3456),
            (0x0500_9234, 0x0500_9234),
            (0x2012_3456, 0x2012_3456),
        ];
        for (given, back) in cases {
            assert_eq!(decode_compact(bits(given)).map(encode_compact), Ok(bits(back)), "{given:08x}");
        }
        assert_eq!(decode_compact(bits(0x01fe_dcba)), Err(CompactError::Negative));
        assert_eq!(decode_compact(bits(0x0492_3456)), Err(CompactError::Negative));
        assert_eq!(decode_compact(bits(0xff12_3456)), Err(CompactError::Overflow));
    }

    #[test]
    fn a_target_out_of_range_proves_nothing() {
        let params = Network::Regtest.params();
        for value in [0, 0x2080_0000, 0x2100_8000, 0x2300_0001, 0x04ff_ffff] {
            assert_eq!(derive_target(bits(value), params), None, "{value:08x}");
        }
        assert!(derive_target(bits(0x207f_ffff), params).is_some());
        assert!(check_proof_of_work(params.genesis_hash, params.pow_limit_bits, params));
    }

    fn next(first_time: u32, last_time: u32, value: u32) -> CompactTarget {
        let params = Network::Devnet.params();
        let last = Timing { height: 119, time: last_time, bits: bits(value) };
        next_work_required(params, last, |height| {
            assert_eq!(height, 60);
            Timing { height, time: first_time, bits: bits(value) }
        })
    }

    #[test]
    fn retarget_follows_the_time_taken_within_a_factor_of_four() {
        assert_eq!(next(0, 600, 0x1d00_ffff), bits(0x1d00_ffff));
        assert_eq!(next(0, 300, 0x1d00_fffe), bits(0x1c7f_ff00));
        assert_eq!(next(0, 1, 0x1d00_fffc), bits(0x1c3f_ff00));
        assert_eq!(next(1_000, 0, 0x1d00_fffc), bits(0x1c3f_ff00));
        assert_eq!(next(0, 100_000, 0x1d00_ffff), bits(0x1d03_fffc));
        assert_eq!(next(0, 100_000, 0x1e01_0000), bits(0x1e01_ffff), "never above the limit");
    }

    /// Blocks found at random, as by miners: how long each took, and the chain's clock.
    struct Mining {
        random: rand_chacha::ChaCha8Rng,
        blocks: Vec<Timing>,
        now: f64,
    }

    impl Mining {
        fn start(seed: u64) -> Self {
            let random = rand::SeedableRng::seed_from_u64(seed);
            let genesis = Timing { height: 0, time: 1_000_000, bits: Network::Devnet.params().pow_limit_bits };
            Self { random, blocks: vec![genesis], now: 1_000_000.0 }
        }

        /// Finds `count` blocks at `rate` hashes a second; the mean of their spacings in seconds.
        fn find(&mut self, count: u32, rate: f64) -> f64 {
            let params = Network::Devnet.params();
            let begun = self.now;
            for _ in 0..count {
                let last = *self.blocks.last().expect("genesis");
                let bits = next_work_required(params, last, |height| self.blocks[height as usize]);
                let work = Target::from_compact(bits).difficulty_float() * 4_294_967_296.0;
                let chance: f64 = rand::Rng::random_range(&mut self.random, f64::EPSILON..1.0);
                self.now += -chance.ln() * work / rate;
                self.blocks.push(Timing { height: last.height + 1, time: self.now as u32, bits });
            }
            (self.now - begun) / f64::from(count)
        }
    }

    /// Exponential block times, and a hash rate that doubles, doubles again and halves twice: from two retargets after each
    /// change blocks come within a tenth of the wanted spacing.
    #[test]
    fn blocks_keep_their_pace_when_the_hash_rate_changes() {
        const BLOCKS: u32 = 12_000;
        let params = Network::Devnet.params();
        let (period, wanted) = (params.difficulty_adjustment_interval(), f64::from(params.pow_target_spacing));
        for seed in 0..2 {
            let mut mining = Mining::start(seed);
            // From the limit of an empty network to what a rate of 100 million hashes needs.
            mining.find(6 * period, 1e8);
            for rate in [1e8, 2e8, 4e8, 2e8, 1e8] {
                mining.find(2 * period, rate);
                let spacing = mining.find(BLOCKS, rate);
                assert!((spacing / wanted - 1.0).abs() < 0.1, "seed {seed}, {rate} hashes a second: {spacing} s");
            }
        }
    }

    #[test]
    fn permitted_transitions() {
        let params = Network::Devnet.params();
        let permitted = |height, old, new| is_permitted_transition(params, height, bits(old), bits(new));
        assert!(permitted(61, 0x1d00_ffff, 0x1d00_ffff));
        assert!(!permitted(61, 0x1d00_ffff, 0x1d00_fffe));
        assert!(permitted(60, 0x1d00_ffff, 0x1d03_fffc));
        assert!(!permitted(60, 0x1d00_ffff, 0x1d03_fffd));
        assert!(permitted(60, 0x1d00_fffc, 0x1c3f_ff00));
        assert!(!permitted(60, 0x1d00_fffc, 0x1c3f_feff));
    }

    proptest! {
        #[test]
        fn compact_agrees_with_rust_bitcoin(bytes in any::<[u8; 32]>(), zeros in 0usize..32) {
            let mut bytes = bytes;
            bytes[..zeros].fill(0);
            let ours = encode_compact(U256::from_be_bytes(&bytes));
            prop_assert_eq!(ours, Target::from_be_bytes(bytes).to_compact_lossy());
            let back = decode_compact(ours).expect("encoded by us");
            prop_assert!(back <= U256::from_be_bytes(&bytes));
            prop_assert_eq!(encode_compact(back), ours);
        }

        #[test]
        fn decoding_any_bits_never_panics_and_is_stable(value in any::<u32>()) {
            if let Ok(target) = decode_compact(bits(value)) {
                prop_assert_eq!(decode_compact(encode_compact(target)), Ok(target));
                prop_assert_eq!(target, U256::from_be_bytes(&Target::from_compact(bits(value)).to_be_bytes()));
            }
        }
    }
}
