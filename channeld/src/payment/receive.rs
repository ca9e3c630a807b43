//! What we are paid: invoices, and what a final hop checks (BOLT 4).

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::onion::{Failure, FinalPayload, ReturnPath};
use crate::units::{BlockHeight, ChannelId, CltvDelta, CltvExpiry, HtlcId, Msat, PaymentHash, Preimage, UnixTime};

/// The least number of blocks that must be left when a payment without invoice comes in (BOLT 11's default for `c`).
pub const MIN_FINAL_CLTV_EXPIRY_DELTA: u16 = 18;
/// What our invoices ask for, if nobody says otherwise: the claim margin, and blocks that the payer and a peer that is away
/// for a while may take.
pub const INVOICE_FINAL_CLTV_EXPIRY_DELTA: u16 = 30;
/// How long parts of a payment wait for the rest (BOLT 4: at least 60 seconds).
pub const MPP_TIMEOUT_SECONDS: u64 = 60;
/// The most parts of one payment that are waited for.
pub const MAX_PARTS: usize = 64;

/// An invoice of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Counts up from 1 in the order in which invoices were made.
    pub index: u64,
    /// Its hash.
    pub payment_hash: PaymentHash,
    /// The payment request (BOLT 11).
    pub payment_request: String,
    /// What it asks for, or `None` for any amount.
    pub amount: Option<Msat>,
    /// What it is for.
    pub description: String,
    /// When it was made.
    pub created: UnixTime,
    /// When it expires.
    pub expires: UnixTime,
    /// The least number of blocks that must be left when the HTLC comes in.
    pub min_final_cltv_expiry_delta: CltvDelta,
    /// What pays it; `None` while its owner keeps it: then the payment is held until it is shown or cancelled.
    pub preimage: Option<Preimage>,
    /// What a payer must show (BOLT 11 `s`).
    pub payment_secret: [u8; 32],
    /// Where it stands.
    pub status: InvoiceStatus,
}

/// Where an invoice stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvoiceStatus {
    /// It may be paid.
    Open,
    /// It was paid.
    Settled {
        /// What came in.
        received: Msat,
        /// On which channel.
        channel: ChannelId,
        /// When the payment was irrevocable.
        at: UnixTime,
    },
    /// All of it is here, and its owner decides.
    Accepted {
        /// What came in.
        received: Msat,
        /// On which channel.
        channel: ChannelId,
        /// When the payment was irrevocable.
        at: UnixTime,
        /// The height at which it goes back by itself.
        deadline_height: BlockHeight,
    },
    /// It was cancelled by its owner.
    Cancelled {
        /// When.
        at: UnixTime,
    },
    /// Nobody paid it in time.
    Expired,
}

/// An HTLC towards us that is irrevocable, and names us as the final hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// On which channel.
    pub channel: ChannelId,
    /// The HTLC's id there.
    pub htlc_id: HtlcId,
    /// What it is worth.
    pub amount: Msat,
    /// Its hash.
    pub payment_hash: PaymentHash,
    /// When it times out.
    pub cltv_expiry: CltvExpiry,
    /// Our best block.
    pub height: BlockHeight,
    /// The wall clock.
    pub now: UnixTime,
}

/// What is done with it.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It pays: by an invoice's preimage, or by its own.
    Accepted {
        /// What all parts together must come to.
        total: Msat,
        /// What is done when all is here.
        claim: Claim,
    },
    /// It goes back.
    Failed(Failure),
}

/// What is done with a payment that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is taken by an invoice's preimage.
    Invoice(Preimage),
    /// It is taken by the preimage that the payer brought.
    Keysend(Preimage),
    /// It waits for the owner of its invoice.
    Held,
}

impl Arrival {
    /// The checks of a final hop (BOLT 4, "Requirements" of the payload and "Failure Messages").
    pub fn judge(&self, payload: &FinalPayload, invoice: Option<&Invoice>) -> Verdict {
        if payload.outgoing_cltv_value > self.cltv_expiry {
            return Verdict::Failed(Failure::FinalIncorrectCltvExpiry { cltv_expiry: self.cltv_expiry });
        }
        if payload.amt_to_forward > self.amount {
            return Verdict::Failed(Failure::FinalIncorrectHtlcAmount { incoming_htlc_amt: self.amount });
        }
        match (invoice, payload.keysend_preimage) {
            (Some(invoice), _) => self.judge_invoice(payload, invoice),
            (None, Some(preimage)) => self.judge_keysend(payload, preimage),
            (None, None) => self.unknown(),
        }
    }

    fn judge_invoice(&self, payload: &FinalPayload, invoice: &Invoice) -> Verdict {
        let Some(data) = &payload.payment_data else { return self.unknown() };
        let is_secret_right: bool = data.payment_secret.ct_eq(&invoice.payment_secret).into();
        // BOLT 4: a payer may overpay up to twice, so that nobody learns from the amount who the payee is.
        let is_amount_right = invoice
            .amount
            .is_none_or(|asked| data.total_msat >= asked && data.total_msat.msat() <= asked.msat().saturating_mul(2));
        // A held payment that is told again after a restart was in time when it came.
        let is_held = matches!(invoice.status, InvoiceStatus::Accepted { .. });
        let is_open = is_held || (invoice.status == InvoiceStatus::Open && self.now < invoice.expires);
        let leaves_time = is_held || self.leaves(invoice.min_final_cltv_expiry_delta.blocks());
        if !is_secret_right || !is_amount_right || !is_open || !leaves_time || data.total_msat == Msat::ZERO {
            return self.unknown();
        }
        let claim = invoice.preimage.map_or(Claim::Held, Claim::Invoice);
        Verdict::Accepted { total: data.total_msat, claim }
    }

    fn judge_keysend(&self, payload: &FinalPayload, preimage: Preimage) -> Verdict {
        let total = payload.payment_data.as_ref().map_or(payload.amt_to_forward, |data| data.total_msat);
        let is_whole = total <= self.amount;
        if preimage.payment_hash() != self.payment_hash || !is_whole || !self.leaves(MIN_FINAL_CLTV_EXPIRY_DELTA) {
            return self.unknown();
        }
        Verdict::Accepted { total, claim: Claim::Keysend(preimage) }
    }

    /// Whether enough blocks are left to claim it on the chain.
    fn leaves(&self, blocks: u16) -> bool {
        self.cltv_expiry.height() >= self.height.plus(u32::from(blocks)).height()
    }

    /// One answer for all that a prober should not tell apart.
    fn unknown(&self) -> Verdict {
        Verdict::Failed(self.unknown_failure())
    }

    /// See [`Arrival::unknown`].
    pub fn unknown_failure(&self) -> Failure {
        Failure::IncorrectOrUnknownPaymentDetails { htlc_msat: self.amount, height: self.height }
    }
}

/// Parts of one payment that wait for the rest. Not stored: after a restart the HTLCs are there, and are judged again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartSet {
    /// What all parts together must come to.
    pub total: Msat,
    /// When the first came.
    pub since: UnixTime,
    /// Those that came.
    pub parts: Vec<Part>,
    /// All are here, and the invoice's owner decides.
    pub held: bool,
    /// What the payer wrote beside the payment, in the first part.
    pub custom_records: Vec<(u64, Vec<u8>)>,
}

/// One HTLC of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The HTLC.
    pub arrival: Arrival,
    /// For the answer.
    pub return_path: ReturnPath,
}

impl PartSet {
    /// An empty one for a payment of `total`.
    pub const fn new(total: Msat, since: UnixTime, custom_records: Vec<(u64, Vec<u8>)>) -> PartSet {
        PartSet { total, since, parts: Vec::new(), held: false, custom_records }
    }

    /// Whether this HTLC is one of them.
    pub fn knows(&self, channel: ChannelId, id: HtlcId) -> bool {
        self.parts.iter().any(|part| (part.arrival.channel, part.arrival.htlc_id) == (channel, id))
    }

    /// Whether one more may come: of the same payment, and while something is missing (BOLT 4, "Basic Multi-Part
    /// Payments").
    pub fn takes(&self, total: Msat) -> bool {
        self.total == total && self.parts.len() < MAX_PARTS && !self.is_whole()
    }

    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.received() >= self.total
    }

    /// Whether more than twice of what was to come is here.
    pub fn is_overpaid(&self) -> bool {
        self.received().msat() > self.total.msat().saturating_mul(2)
    }

    /// What has come so far.
    pub fn received(&self) -> Msat {
        Msat::new(self.parts.iter().fold(0, |sum, part| part.arrival.amount.msat().saturating_add(sum)))
    }

    /// Whether the rest is not waited for any more.
    pub fn is_late(&self, now: UnixTime) -> bool {
        !self.held && now.micros_since(self.since) > MPP_TIMEOUT_SECONDS * 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onion::PaymentData;

    const PREIMAGE: Preimage = Preimage([9; 32]);

    fn invoice() -> Invoice {
        Invoice {
            index: 1,
            payment_hash: PREIMAGE.payment_hash(),
            payment_request: String::new(),
            amount: Some(Msat::new(1_000)),
            description: String::new(),
            created: UnixTime::from_seconds(0),
            expires: UnixTime::from_seconds(100),
            min_final_cltv_expiry_delta: CltvDelta::new(18),
            preimage: Some(PREIMAGE),
            payment_secret: [7; 32],
            status: InvoiceStatus::Open,
        }
    }

    fn arrival() -> Arrival {
        Arrival {
            channel: ChannelId([1; 32]),
            htlc_id: HtlcId::new(0),
            amount: Msat::new(1_000),
            payment_hash: PREIMAGE.payment_hash(),
            cltv_expiry: CltvExpiry::new(120),
            height: BlockHeight::new(100),
            now: UnixTime::from_seconds(50),
        }
    }

    fn payload() -> FinalPayload {
        FinalPayload {
            amt_to_forward: Msat::new(1_000),
            outgoing_cltv_value: CltvExpiry::new(120),
            payment_data: Some(PaymentData { payment_secret: [7; 32], total_msat: Msat::new(1_000) }),
            payment_metadata: None,
            keysend_preimage: None,
            custom_records: Vec::new(),
        }
    }

    fn code(verdict: Verdict) -> Option<u16> {
        match verdict {
            Verdict::Failed(failure) => Some(failure.code()),
            Verdict::Accepted { .. } => None,
        }
    }

    const UNKNOWN: Option<u16> = Some(0x4000 | 15);

    #[test]
    fn an_invoice_is_paid_by_exactly_what_it_asks() {
        assert_eq!(code(arrival().judge(&payload(), Some(&invoice()))), None);
        let mut wrong = payload();
        wrong.payment_data = Some(PaymentData { payment_secret: [8; 32], total_msat: Msat::new(1_000) });
        assert_eq!(code(arrival().judge(&wrong, Some(&invoice()))), UNKNOWN);
        for total in [999, 2_001] {
            let mut wrong = payload();
            wrong.payment_data = Some(PaymentData { payment_secret: [7; 32], total_msat: Msat::new(total) });
            assert_eq!(code(arrival().judge(&wrong, Some(&invoice()))), UNKNOWN, "{total}");
        }
        let late = Arrival { now: UnixTime::from_seconds(100), ..arrival() };
        assert_eq!(code(late.judge(&payload(), Some(&invoice()))), UNKNOWN);
        let soon = Arrival { height: BlockHeight::new(103), ..arrival() };
        assert_eq!(code(soon.judge(&payload(), Some(&invoice()))), UNKNOWN);
        assert_eq!(code(arrival().judge(&payload(), None)), UNKNOWN);
    }

    #[test]
    fn the_onion_and_the_htlc_must_agree() {
        let less = Arrival { amount: Msat::new(999), ..arrival() };
        assert_eq!(code(less.judge(&payload(), Some(&invoice()))), Some(19));
        let sooner = Arrival { cltv_expiry: CltvExpiry::new(119), ..arrival() };
        assert_eq!(code(sooner.judge(&payload(), Some(&invoice()))), Some(18));
    }

    #[test]
    fn a_keysend_brings_its_own_preimage() {
        let keysend = FinalPayload { payment_data: None, keysend_preimage: Some(PREIMAGE), ..payload() };
        assert_eq!(code(arrival().judge(&keysend, None)), None);
        let wrong = FinalPayload { keysend_preimage: Some(Preimage([8; 32])), ..keysend };
        assert_eq!(code(arrival().judge(&wrong, None)), UNKNOWN);
    }
}
