//! Forwards and the onions that were forwarded, as part of the state.

use serde::{Deserialize, Serialize};

use super::change::Change;
use super::row::RowKey;
use super::{Cause, Forward, ForwardStatus, HtlcPlace, State};
use crate::onion::ReturnPath;
use crate::units::{BlockHeight, ChannelId, CltvExpiry, Msat};

/// Onions remembered at most: beyond, those that expire first are forgotten early.
const MOST_ONIONS: usize = 1_000_000;

/// Names an onion by what we share with its payer, in 16 bytes that nobody else can aim at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OnionTag(pub [u8; 16]);

impl From<&ReturnPath> for OnionTag {
    fn from(return_path: &ReturnPath) -> OnionTag {
        OnionTag(*return_path.tag().first_chunk().expect("a tag has 32 bytes"))
    }
}

impl State {
    /// Whether this onion was forwarded before.
    pub fn is_replayed(&self, return_path: &ReturnPath) -> bool {
        self.seen_onions.contains_key(&OnionTag::from(return_path))
    }

    /// The forwards that came on this channel.
    pub fn forwards_from(&self, channel: ChannelId) -> impl Iterator<Item = &Forward> {
        let first = HtlcPlace { channel, id: crate::units::HtlcId::new(0) };
        self.forwards.range(first..).take_while(move |(place, _)| place.channel == channel).map(|(_, forward)| forward)
    }

    pub(super) fn apply_forward(&mut self, change: &Change) {
        match change {
            Change::ForwardAdded(forward) => {
                self.dirty.insert(RowKey::Forward(forward.incoming));
                self.see_onion(OnionTag::from(&forward.return_path), forward.incoming_expiry);
                self.index_forward(forward);
                self.forwards.insert(forward.incoming, (**forward).clone());
            }
            Change::ForwardProgressed { incoming, status } => {
                self.dirty.insert(RowKey::Forward(*incoming));
                let forward = self.forwards.get_mut(incoming).expect("a forward that goes on was begun");
                forward.status = *status;
                if matches!(status, ForwardStatus::Fulfilled(_)) {
                    let (outgoing, fee) = (forward.outgoing, forward.fee());
                    self.causes.remove(&outgoing);
                    self.count_forward(fee);
                }
            }
            Change::ForwardEnded { incoming, earned } => {
                self.dirty.insert(RowKey::Forward(*incoming));
                let forward = self.forwards.remove(incoming).expect("a forward that ends was begun");
                self.remove_cause(&forward);
                if let Some(fee) = earned {
                    self.count_forward(*fee);
                }
            }
            _ => unreachable!("sorted by `apply`"),
        }
    }

    fn count_forward(&mut self, fee: Msat) {
        self.dirty.insert(RowKey::Head);
        self.head.forwarded += 1;
        self.head.forwarding_fees = Msat::new(self.head.forwarding_fees.msat().saturating_add(fee.msat()));
    }

    /// Lets the cause of the outgoing HTLC be found, as long as its end is not known.
    pub(super) fn index_forward(&mut self, forward: &Forward) {
        if !matches!(forward.status, ForwardStatus::Fulfilled(_)) {
            self.causes.insert(forward.outgoing, Cause::Forward(forward.incoming));
        }
    }

    /// The outgoing HTLC's id may be another one's by now.
    fn remove_cause(&mut self, forward: &Forward) {
        if self.causes.get(&forward.outgoing) == Some(&Cause::Forward(forward.incoming)) {
            self.causes.remove(&forward.outgoing);
        }
    }

    /// A channel is over: what came on it needs no answer any more. What is still on its way out has no use for a cause.
    pub(super) fn forget_forwards_of(&mut self, channel: ChannelId) {
        let over: Vec<HtlcPlace> = self.forwards_from(channel).map(|forward| forward.incoming).collect();
        for incoming in over {
            self.dirty.insert(RowKey::Forward(incoming));
            if let Some(forward) = self.forwards.remove(&incoming) {
                self.remove_cause(&forward);
            }
        }
    }

    fn see_onion(&mut self, tag: OnionTag, expiry: CltvExpiry) {
        self.load_onion(tag, expiry);
        self.dirty.insert(RowKey::SeenOnion(tag));
        if self.seen_onions.len() > MOST_ONIONS
            && let Some((_, oldest)) = self.seen_until.pop_first()
        {
            self.seen_onions.remove(&oldest);
            self.dirty.insert(RowKey::SeenOnion(oldest));
        }
    }

    /// The same from a row.
    pub(super) fn load_onion(&mut self, tag: OnionTag, expiry: CltvExpiry) {
        if let Some(before) = self.seen_onions.insert(tag, expiry) {
            self.seen_until.remove(&(before, tag));
        }
        self.seen_until.insert((expiry, tag));
    }

    /// What has expired is refused for that reason: it need not be remembered.
    pub(super) fn forget_onions(&mut self, height: BlockHeight) {
        while let Some((expiry, tag)) = self.seen_until.first().copied()
            && expiry.height() <= height.height()
        {
            self.seen_until.pop_first();
            self.seen_onions.remove(&tag);
            self.dirty.insert(RowKey::SeenOnion(tag));
        }
    }
}
