//! Closing a channel together (BOLT 2): `shutdown`, `closing_signed`.

use bitcoin::{Amount, ScriptBuf};
use secp256k1::ecdsa::Signature;
use serde::{Deserialize, Serialize};

use crate::units::ChannelId;
use crate::wire::DecodeError;
use crate::wire::codec::{Field, Reader, TlvValue};

message! {
    /// The sender adds nothing any more and says where its money goes (BOLT 2, `shutdown`).
    pub struct Shutdown = 38 {
        /// The channel.
        channel_id: ChannelId,
        /// Where the closing transaction pays the sender.
        scriptpubkey: ScriptBuf,
        // CLN's TLV 100, `wrong_funding`, is even and yet sent unasked.
    } ignored { 100 }
}

message! {
    /// A fee for the closing transaction, and the signature for it (BOLT 2, `closing_signed`).
    pub struct ClosingSigned = 39 {
        /// The channel.
        channel_id: ChannelId,
        /// The fee proposed or agreed to.
        fee_satoshis: Amount,
        /// For the closing transaction with that fee.
        signature: Signature,
    } tlvs {
        /// What the sender would take; LND sends none.
        1 => fee_range: FeeRange,
    }
}

/// The fees that the sender of a `closing_signed` would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeeRange {
    /// The least.
    pub min_fee_satoshis: Amount,
    /// The most. Who says "any" by a figure beyond 21 million coins is read as these.
    pub max_fee_satoshis: Amount,
}

impl TlvValue for FeeRange {
    fn write_value(&self, out: &mut Vec<u8>) {
        self.min_fee_satoshis.write(out);
        self.max_fee_satoshis.write(out);
    }

    fn read_value(reader: &mut Reader<'_>) -> Result<FeeRange, DecodeError> {
        let mut bounded = || Ok(Amount::from_sat(u64::read(reader)?).min(Amount::MAX_MONEY));
        Ok(FeeRange { min_fee_satoshis: bounded()?, max_fee_satoshis: bounded()? })
    }
}
