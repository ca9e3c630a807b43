//! What the options say of the chain: its indexes and its clock, what counts as far behind, and the blocks we make.

use bitcoin::Work;

use super::{ConfigError, Options, value, within};
use crate::driver::LedgerOptions;
use crate::mining::Limits;
use crate::params::{Activation, Network};
use crate::store::Indexes;

impl Options {
    pub(super) fn activation(&self) -> Result<Activation, ConfigError> {
        let mut activation = Activation::default();
        for text in &self.test_activation_height {
            let bad = |problem| value("test-activation-height", text, problem);
            let (name, height) = text.split_once('@').ok_or_else(|| bad("expected NAME@HEIGHT, like csv@432"))?;
            let height = height.parse::<u32>().ok().filter(|height| *height < i32::MAX.cast_unsigned());
            let height = height.ok_or_else(|| bad("the height is no number that a block can have"))?;
            match name {
                "bip34" => activation.bip34 = height,
                "dersig" => activation.dersig = height,
                "cltv" => activation.cltv = height,
                "csv" => activation.csv = height,
                "segwit" => activation.segwit = height,
                _ => return Err(bad("names are segwit, bip34, dersig, cltv and csv")),
            }
        }
        Ok(activation)
    }

    pub(super) fn ledger(&self, network: Network) -> Result<LedgerOptions, ConfigError> {
        let default = LedgerOptions::default();
        let seconds = within("mock-time", self.mock_time, 1..=u64::from(u32::MAX))?;
        if let Some(seconds) = seconds.filter(|_| !network.params().is_mockable) {
            return Err(value("mock-time", &seconds.to_string(), "only regtest's clock can be set"));
        }
        let max_tip_age = within("max-tip-age", self.max_tip_age, 0..=i64::MAX.cast_unsigned())?;
        Ok(LedgerOptions {
            indexes: Indexes {
                filters: self.block_filter_index,
                transactions: self.txindex,
                coin_stats: self.coinstats_index,
                spenders: self.txospender_index,
            },
            max_tip_age: max_tip_age.map_or(default.max_tip_age, u64::cast_signed),
            minimum_work: self.minimum_chain_work.as_deref().map_or(Ok(default.minimum_work), work)?,
            mock_time: seconds.map(u64::cast_signed),
            keeps_mempool: self.persist_mempool.unwrap_or(default.keeps_mempool),
            mining: self.mining(network)?,
            estimates_fees: !self.blocks_only,
            takes_stale_estimates: self.accept_stale_fee_estimates,
            ..default
        })
    }

    fn mining(&self, network: Network) -> Result<Limits, ConfigError> {
        const MAX_FEERATE: u64 = 100_000_000;
        let default = Limits::default();
        let max = within("block-max-weight", self.block_max_weight, 0..=Limits::MAX_WEIGHT)?;
        let max_weight = max.unwrap_or(default.max_weight);
        let range = Limits::MIN_RESERVED_WEIGHT..=Limits::MAX_WEIGHT;
        let reserved = within("block-reserved-weight", self.block_reserved_weight, range)?;
        let reserved_weight = reserved.unwrap_or(default.reserved_weight);
        if reserved_weight > max_weight {
            let problem = format!("is less than the {reserved_weight} that are kept for header and coinbase");
            return Err(value("block-max-weight", &max_weight.to_string(), problem));
        }
        if let Some(version) = self.block_version.filter(|_| network != Network::Regtest) {
            return Err(value("block-version", &version.to_string(), "only regtest's can be set"));
        }
        let feerate = within("block-min-feerate", self.block_min_feerate, 0..=MAX_FEERATE)?;
        let min_feerate = feerate.unwrap_or(default.min_feerate);
        Ok(Limits { max_weight, reserved_weight, min_feerate, version: self.block_version })
    }
}

/// A number of 256 bits in hexadecimal, with or without `0x` and zeros before it.
fn work(text: &str) -> Result<Work, ConfigError> {
    let digits = text.trim_start_matches("0x");
    let bytes = hex::decode(format!("{digits:0>64}")).ok().and_then(|bytes| bytes.try_into().ok());
    let bad = || value("minimum-chain-work", text, "expected a number in hexadecimal, like 0x65");
    bytes.map(Work::from_be_bytes).ok_or_else(bad)
}
