//! What a forced close would cost and bring, were our commitment in the next block: the same plans, made for a block that
//! is only imagined.

use bitcoin::Amount;

use super::classify::CloseKind;
use super::closed::ClosedChannel;
use super::fact::{Change, Confirmed, Context, Delta, Effect, HtlcSide, Input};
use super::resolver::Resolver;
use super::sweep::{FUNDING_WEIGHT, SWEEP_WEIGHT, Stake, Way};
use crate::transactions::ClaimTransaction;
use crate::units::{BlockHeight, FeeratePerKw, PaymentHash, Preimage};

/// What a forced close would cost and bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// What our commitment pays.
    pub fee: Amount,
    /// What the child that hurries it would pay at the present feerates.
    pub child_fee: Amount,
    /// What may become ours.
    pub prospects: Vec<Prospect>,
}

/// An output of our commitment that may become ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prospect {
    /// What it is.
    pub kind: ProspectKind,
    /// What it holds.
    pub amount: Amount,
    /// What its claims would pay at the present feerates, never more than it holds.
    pub claim_fee: Amount,
    /// The first block that may hold the claim which brings it to the wallet.
    pub spendable_at: BlockHeight,
    /// Of an HTLC.
    pub payment_hash: Option<PaymentHash>,
}

/// What an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProspectKind {
    /// Our delayed balance.
    ToLocal,
    /// An HTLC of ours: it comes back when it times out, if the peer does not fulfil it before.
    Offered,
    /// An HTLC of the peer's whose preimage is known.
    Received,
}

impl Outlook {
    /// What would come of `channel`, were its newest commitment of ours in the block after `tip`. What is not worth its claim is
    /// left out. `preimages` as in [`Resolver::new`].
    pub fn new(channel: ClosedChannel, preimages: &[Preimage], tip: BlockHeight, cx: &Context<'_>) -> Outlook {
        let mut resolver = Resolver::new(channel, preimages, tip);
        let child_fee = child_fee(&resolver, cx);
        let fee = resolver.local_commitment().fee();
        let height = tip.plus(1);
        let transaction = resolver.signed_local_commitment(cx.signer);
        let confirmed = Confirmed { kind: CloseKind::Local, height, transaction, history: Vec::new() };
        resolver.apply(&Delta { changes: vec![Change::Tip(height), Change::Confirmed(Box::new(confirmed))] });
        let stakes = resolver.stakes(cx.signer, &cx.settings);
        let script = &resolver.channel().sweep_script;
        let worthwhile = stakes.iter().filter(|stake| stake.is_worthwhile(script));
        let prospects = worthwhile.filter_map(|stake| prospect(&resolver, stake, cx)).collect();
        Outlook { fee, child_fee, prospects }
    }
}

/// What the wallet would be asked to add.
fn child_fee(resolver: &Resolver, cx: &Context<'_>) -> Amount {
    let (_, effects) = resolver.decide(Input::ForceClose, cx);
    let request = effects.into_iter().find_map(|effect| match effect {
        Effect::Fund(request) => Some(request),
        _ => None,
    });
    request.map_or(Amount::ZERO, |request| {
        let own = request.transaction.weight().to_wu() + request.witness_weight + FUNDING_WEIGHT;
        let package = request.feerate.fee_ceil(own + request.parent_weight);
        package.checked_sub(request.parent_fee).unwrap_or_default().min(request.limit)
    })
}

fn prospect(resolver: &Resolver, stake: &Stake, cx: &Context<'_>) -> Option<Prospect> {
    let channel = resolver.channel();
    let fee = |feerate: FeeratePerKw, weight: u64| feerate.max(FeeratePerKw::FLOOR).fee_ceil(weight);
    let delay = u32::from(channel.local.terms().to_self_delay.blocks());
    let (kind, claim_fee, spendable_at) = match &stake.way {
        Way::NoPreimage => return None,
        Way::Claim(claim) => {
            let weight = ClaimTransaction::weight(std::slice::from_ref(claim), &channel.sweep_script);
            (ProspectKind::ToLocal, fee(cx.feerates.relaxed, weight), stake.mature_at)
        }
        Way::HtlcTransaction(second) => {
            let is_ours = stake.htlc.is_some_and(|htlc| htlc.key.side == HtlcSide::Outgoing);
            let kind = if is_ours { ProspectKind::Offered } else { ProspectKind::Received };
            let first = if second.has_anchors {
                fee(cx.feerates.normal, second.weight + FUNDING_WEIGHT)
            } else {
                let kept = second.transaction.transaction().output.first().map_or(Amount::ZERO, |output| output.value);
                stake.output.value.checked_sub(kept).unwrap_or_default()
            };
            (kind, first + fee(cx.feerates.relaxed, SWEEP_WEIGHT), stake.mature_at.plus(delay))
        }
    };
    Some(Prospect {
        kind,
        amount: stake.output.value,
        claim_fee: claim_fee.min(stake.output.value),
        spendable_at,
        payment_hash: stake.htlc.map(|htlc| htlc.payment_hash),
    })
}
