//! Block filters for light clients (BIP 157), if the node keeps them. Core: `ProcessGetCFilters` and its like.

use bitcoin::BlockHash;
use bitcoin::bip158::FilterHeader;
use bitcoin::hashes::Hash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_filter::{CFCheckpt, CFHeaders, CFilter, GetCFCheckpt, GetCFHeaders, GetCFilters};

use super::Machine;
use super::peer::Peer;
use super::port::{Host, Reason};
use super::serve::is_allowed;
use crate::chain::BlockId;

/// The only type of filter there is.
const BASIC: u8 = 0;
const MAX_FILTERS: u32 = 1_000;
const MAX_FILTER_HEADERS: u32 = 2_000;
/// Blocks from one checkpoint to the next.
const CHECKPOINT_INTERVAL: u32 = 1_000;

impl Machine {
    /// The last block of a request, if it is one that is answered; else the connection is closed, as Core does.
    fn filter_request(
        &self,
        peer: &mut Peer,
        (kind, start, stop): (u8, u32, BlockHash),
        limit: u32,
        host: &dyn Host,
    ) -> Option<BlockId> {
        let is_offered = ServiceFlags::from(self.options.services).has(ServiceFlags::COMPACT_FILTERS);
        if kind != BASIC || !is_offered {
            peer.close(Reason::Unwelcome("peer requested unsupported block filter type"));
            return None;
        }
        let chain = host.chain();
        let Some(id) = chain.find(&stop).filter(|id| is_allowed(chain, *id)) else {
            peer.close(Reason::Unwelcome("peer requested invalid block hash"));
            return None;
        };
        match chain.entry(id).height.checked_sub(start) {
            Some(count) if count < limit => Some(id),
            Some(_) => {
                peer.close(Reason::Unwelcome("peer requested too many cfilters/cfheaders"));
                None
            }
            None => {
                peer.close(Reason::Unwelcome("peer sent invalid getcfilters/getcfheaders"));
                None
            }
        }
    }

    /// The blocks from `start` to `stop`, oldest first.
    fn blocks_between(host: &dyn Host, start: u32, stop: BlockId) -> Vec<BlockId> {
        let chain = host.chain();
        let mut ids: Vec<BlockId> =
            chain.index().ancestors(Some(stop)).take_while(|id| chain.entry(*id).height >= start).collect();
        ids.reverse();
        ids
    }

    pub(super) fn receive_getcfilters(&self, peer: &mut Peer, request: &GetCFilters, host: &mut dyn Host) {
        let asked = (request.filter_type, request.start_height, request.stop_hash);
        let Some(stop) = self.filter_request(peer, asked, MAX_FILTERS, host) else { return };
        for id in Self::blocks_between(host, request.start_height, stop) {
            let Some(filter) = host.block_filter(id) else { return };
            let block_hash = Self::hash_of(host, id);
            peer.send(NetworkMessage::CFilter(CFilter { filter_type: BASIC, block_hash, filter }));
        }
    }

    pub(super) fn receive_getcfheaders(&self, peer: &mut Peer, request: &GetCFHeaders, host: &mut dyn Host) {
        let asked = (request.filter_type, request.start_height, request.stop_hash);
        let Some(stop) = self.filter_request(peer, asked, MAX_FILTER_HEADERS, host) else { return };
        let blocks = Self::blocks_between(host, request.start_height, stop);
        let before = blocks.first().and_then(|first| host.chain().entry(*first).parent);
        let previous_filter_header = match before {
            None => FilterHeader::all_zeros(),
            Some(before) => match host.filter_header(before) {
                Some((header, _)) => header,
                None => return,
            },
        };
        let hashes = blocks.into_iter().map(|id| Some(host.filter_header(id)?.1));
        let Some(filter_hashes) = hashes.collect::<Option<Vec<_>>>() else { return };
        let stop_hash = request.stop_hash;
        let answer = CFHeaders { filter_type: BASIC, stop_hash, previous_filter_header, filter_hashes };
        peer.send(NetworkMessage::CFHeaders(answer));
    }

    pub(super) fn receive_getcfcheckpt(&self, peer: &mut Peer, request: &GetCFCheckpt, host: &mut dyn Host) {
        let asked = (request.filter_type, 0, request.stop_hash);
        let Some(stop) = self.filter_request(peer, asked, u32::MAX, host) else { return };
        let count = host.chain().entry(stop).height / CHECKPOINT_INTERVAL;
        let header = |n: u32| {
            let id = host.chain().index().ancestor(stop, n * CHECKPOINT_INTERVAL)?;
            Some(host.filter_header(id)?.0)
        };
        let Some(filter_headers) = (1..=count).map(header).collect::<Option<Vec<_>>>() else { return };
        let stop_hash = request.stop_hash;
        peer.send(NetworkMessage::CFCheckpt(CFCheckpt { filter_type: BASIC, stop_hash, filter_headers }));
    }
}
