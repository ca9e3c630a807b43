//! Peers that we dialled and that are behind: each has some minutes to show as much work as we had when it was noticed, and
//! one more question; then its place is for another one. A few that were good once are spared.
//!
//! Core: `ConsiderEviction`.

use std::time::Duration;

use super::super::Machine;
use super::super::peer::Peer;
use super::super::port::{Host, Origin, Reason, Time};
use super::header::locator;
use crate::chain::BlockId;

const CHAIN_SYNC_TIMEOUT: Duration = Duration::from_secs(20 * 60);
const RESPONSE_TIME: Duration = Duration::from_secs(2 * 60);
/// Peers that are not sent away for being behind.
const MAX_PROTECTED: usize = 4;

/// How long a peer may stay behind.
#[derive(Default)]
pub(in super::super) struct Lag {
    /// Until when, and the block whose work it must show.
    due: Option<(Time, BlockId)>,
    has_asked: bool,
    is_protected: bool,
}

impl Machine {
    pub(super) fn check_lag(&mut self, peer: &mut Peer, host: &dyn Host) {
        let is_ours = matches!(peer.connection.origin, Origin::Automatic | Origin::BlockRelay);
        if peer.lag.is_protected || !is_ours || !peer.blocks.sync_started {
            return;
        }
        let chain = host.chain();
        let work = |id: BlockId| chain.entry(id).chain_work;
        let shown = peer.blocks.available.best.map(work);
        if shown.is_some_and(|shown| shown >= chain.tip_entry().chain_work) {
            (peer.lag.due, peer.lag.has_asked) = (None, false);
            return;
        }
        match peer.lag.due {
            Some((_, wanted)) if shown.is_none_or(|shown| shown < work(wanted)) => self.check_due(peer, host),
            // Behind for the first time, or not where it was when that was noticed.
            _ => {
                peer.lag.due = Some((self.now + CHAIN_SYNC_TIMEOUT, chain.tip()));
                peer.lag.has_asked = false;
            }
        }
    }

    fn check_due(&mut self, peer: &mut Peer, host: &dyn Host) {
        let Some((due, wanted)) = peer.lag.due.filter(|(due, _)| self.now > *due) else { return };
        if peer.lag.has_asked {
            return peer.close(Reason::Timeout("outbound peer has old chain"));
        }
        let chain = host.chain();
        self.ask_headers(peer, locator(chain, chain.entry(wanted).parent.unwrap_or(wanted)));
        peer.lag.has_asked = true;
        peer.lag.due = Some((due.max(self.now) + RESPONSE_TIME, wanted));
    }

    /// A peer for everything that has shown as much work as we have may be spared from now on.
    pub(super) fn consider_protection(&self, peer: &mut Peer, host: &dyn Host) {
        let chain = host.chain();
        let tip = chain.tip_entry().chain_work;
        let is_good = peer.blocks.available.best.is_some_and(|best| chain.entry(best).chain_work >= tip);
        let protected = self.peers.values().filter(|other| other.lag.is_protected).count();
        if peer.connection.origin == Origin::Automatic && is_good && protected < MAX_PROTECTED {
            peer.lag.is_protected = true;
        }
    }

    /// Peers that we chose are of no use in the first download if all that they have is too little work.
    pub(super) fn check_usefulness(&self, peer: &mut Peer, host: &dyn Host) {
        let chain = host.chain();
        let is_ours = matches!(peer.connection.origin, Origin::Automatic | Origin::BlockRelay);
        let has_little =
            peer.blocks.available.best.is_some_and(|best| chain.entry(best).chain_work < chain.minimum_work());
        if is_ours && has_little && host.is_initial_download() {
            peer.close(Reason::Unwelcome("outbound peer headers chain has insufficient work"));
        }
    }
}
