//! Forwards whose time runs out: the incoming HTLC goes back before its peer would close for it, even where the outgoing one
//! is not decided (PAINS 1).

use crate::node::Node;
use crate::node::state::change::Change;
use crate::onion::Failure;
use crate::payment::forward::{FAIL_BACK_MARGIN, Forward, ForwardStatus};

impl Node {
    /// What the height of the tip means for forwards under way.
    pub(in crate::node) fn forward_deadlines(&mut self) {
        let height = self.state.height();
        let open = self.state.forwards.values().filter(|forward| forward.status == ForwardStatus::InFlight);
        let (late, rest): (Vec<&Forward>, Vec<&Forward>) = open.partition(|forward| forward.must_fail_back(height));
        let warned: Vec<Forward> =
            rest.into_iter().filter(|forward| forward.warning_height() == height).cloned().collect();
        let late: Vec<Forward> = late.into_iter().cloned().collect();
        for forward in warned {
            let last = forward.incoming_expiry.height().saturating_sub(FAIL_BACK_MARGIN);
            let text = format!(
                "a forwarded HTLC of {} is not decided though it has expired: the one before it goes back at height {last}",
                forward.outgoing_amount
            );
            self.warn(Some(forward.outgoing.channel), text);
        }
        late.iter().for_each(|forward| self.fail_back(forward));
    }

    fn fail_back(&mut self, forward: &Forward) {
        let answer = forward.return_path.fail(&Failure::PermanentChannelFailure, forward.held(self.moment.now));
        // On a channel that is over the chain decides between us and the peer: the preimage is still good there.
        if !self.answer_htlc(forward.incoming.channel, forward.incoming.id, answer) {
            return;
        }
        self.change(Change::ForwardProgressed { incoming: forward.incoming, status: ForwardStatus::FailedBack });
        let text = format!(
            "an HTLC of {} went back before its deadline while the one behind it, of {}, is not decided",
            forward.incoming_amount, forward.outgoing_amount
        );
        self.warn(Some(forward.incoming.channel), text);
    }
}
