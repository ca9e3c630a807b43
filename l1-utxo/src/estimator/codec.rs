//! The memory as bytes, in the form of Bitcoin Core's `fee_estimates.dat`.

use bitcoin::consensus::encode::{VarInt, deserialize_partial, serialize};

use super::horizon::Horizon;
use super::{Estimator, INFINITE};

/// The form that is written and read.
const VERSION: u32 = 309_900;

/// The bytes are no memory of this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these are no fee estimates that this version reads")]
pub struct MalformedEstimates;

impl Estimator {
    /// What is remembered, without what waits.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (first, last) =
            if self.span() > self.historical_span() / 2 { (self.first_height, self.height) } else { self.history };
        let mut out = Vec::new();
        for number in [VERSION, self.height, first, last] {
            out.extend(number.to_le_bytes());
        }
        put_list(&mut out, self.ranges.iter().copied());
        for horizon in [&self.medium, &self.short, &self.long] {
            put_horizon(&mut out, horizon);
        }
        out
    }

    /// What was remembered.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MalformedEstimates> {
        let mut reader = Reader(bytes);
        let mut estimator = Self::new();
        let version = reader.number()?;
        estimator.height = reader.number()?;
        estimator.history = (reader.number()?, reader.number()?);
        let (first, last) = estimator.history;
        // Other ranges, as of a version to come, would have other meanings.
        let has_our_ranges = reader.list(estimator.ranges.len())? == estimator.ranges;
        if version != VERSION || first > last || last > estimator.height || !has_our_ranges {
            return Err(MalformedEstimates);
        }
        for horizon in estimator.horizons() {
            read_horizon(&mut reader, horizon)?;
        }
        if reader.0.is_empty() { Ok(estimator) } else { Err(MalformedEstimates) }
    }
}

fn put_list(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = f64>) {
    out.extend(serialize(&VarInt(values.len() as u64)));
    for value in values {
        out.extend(value.to_bits().to_le_bytes());
    }
}

fn put_horizon(out: &mut Vec<u8>, horizon: &Horizon) {
    out.extend(horizon.decay.to_bits().to_le_bytes());
    out.extend(horizon.scale.to_le_bytes());
    put_list(out, horizon.ranges.iter().map(|memory| memory.feerates));
    put_list(out, horizon.ranges.iter().map(|memory| memory.count));
    out.extend(serialize(&VarInt(horizon.steps() as u64)));
    for step in 0..horizon.steps() {
        put_list(out, horizon.ranges.iter().map(|memory| memory.confirmed[step]));
    }
    out.extend(serialize(&VarInt(horizon.steps() as u64)));
    for step in 0..horizon.steps() {
        put_list(out, horizon.ranges.iter().map(|memory| memory.failed[step]));
    }
}

fn read_horizon(reader: &mut Reader<'_>, horizon: &mut Horizon) -> Result<(), MalformedEstimates> {
    let (count, steps) = (horizon.ranges.len(), horizon.steps());
    let (decay, scale) = (reader.double()?, reader.number()?);
    if decay.to_bits() != horizon.decay.to_bits() || scale != horizon.scale {
        return Err(MalformedEstimates);
    }
    let (feerates, counts) = (reader.list(count)?, reader.list(count)?);
    for (memory, (feerates, count)) in horizon.ranges.iter_mut().zip(feerates.into_iter().zip(counts)) {
        (memory.feerates, memory.count) = (feerates, count);
    }
    reader.length(steps)?;
    for step in 0..steps {
        let list = reader.list(count)?;
        horizon.ranges.iter_mut().zip(list).for_each(|(memory, value)| memory.confirmed[step] = value);
    }
    reader.length(steps)?;
    for step in 0..steps {
        let list = reader.list(count)?;
        horizon.ranges.iter_mut().zip(list).for_each(|(memory, value)| memory.failed[step] = value);
    }
    Ok(())
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], MalformedEstimates> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(MalformedEstimates)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn number(&mut self) -> Result<u32, MalformedEstimates> {
        self.take().map(u32::from_le_bytes)
    }

    fn double(&mut self) -> Result<f64, MalformedEstimates> {
        let value = f64::from_bits(u64::from_le_bytes(self.take()?));
        if (0.0..=INFINITE).contains(&value) { Ok(value) } else { Err(MalformedEstimates) }
    }

    /// A length, which is known beforehand.
    fn length(&mut self, expected: usize) -> Result<(), MalformedEstimates> {
        let (length, read): (VarInt, usize) = deserialize_partial(self.0).map_err(|_| MalformedEstimates)?;
        self.0 = &self.0[read..];
        if length.0 == expected as u64 { Ok(()) } else { Err(MalformedEstimates) }
    }

    fn list(&mut self, expected: usize) -> Result<Vec<f64>, MalformedEstimates> {
        self.length(expected)?;
        (0..expected).map(|_| self.double()).collect()
    }
}
