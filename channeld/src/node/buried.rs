//! A close that is final: what its commitment paid of the transfers that were on their way is booked by both ends
//! (TRANSFER.md, "When is it paid"). A revoked commitment changes no payment: the books stay, the penalty is booked apart.

use std::collections::BTreeMap;

use super::Node;
use super::api::event::EventKind;
use crate::channel;
use crate::commitment::{SessionMark, Side, View};
use crate::onchain::CloseKind;
use crate::payment::stream::StreamCloseReason;
use crate::units::{ChannelId, SessionId};

impl Node {
    /// The spend of the funding output is buried: transfers and streams of the channel get their final marks.
    pub(super) fn close_buried(&mut self, id: ChannelId, kind: CloseKind) {
        let Some(entry) = self.state.channels.get(&id) else { return };
        let peer = entry.peer;
        let paid = view_of(kind).map(|view| entry.channel.transfers_paid_by(view)).unwrap_or_default();
        let incoming = self.incoming_marks(id, &paid);
        paid.into_iter().for_each(|effect| self.settle(id, peer, effect));
        for session in self.streams_on(id) {
            let reason = self.state.streams.get(&session).and_then(|stream| stream.finishing);
            self.end_stream(session, reason.unwrap_or(StreamCloseReason::ChannelClosed));
        }
        for (session, SessionMark { next_sequence: last_sequence, total }) in incoming {
            self.event(EventKind::StreamClosed { channel: id, session, incoming: true, last_sequence, total });
        }
    }

    /// The last marks of the sessions towards us that are open, or that this close has paid something in.
    fn incoming_marks(&self, id: ChannelId, paid: &[channel::Effect]) -> BTreeMap<SessionId, SessionMark> {
        let commitments = self.state.channels.get(&id).and_then(|entry| entry.channel.commitments());
        let sessions = commitments.into_iter().flat_map(|it| &it.incoming_transfers.sessions);
        let open = sessions.filter(|(_, session)| session.open).map(|(id, session)| (*id, session.paid));
        let mut marks: BTreeMap<SessionId, SessionMark> = open.collect();
        for effect in paid {
            if let channel::Effect::TransferPaid { payer: Side::Remote, transfer, mark, solicited: true, .. } = effect {
                marks.insert(transfer.session, *mark);
            }
        }
        marks
    }
}

/// The commitment whose word counts; `None` where it was revoked, where there is none, and where we lost the data to tell.
const fn view_of(kind: CloseKind) -> Option<View> {
    match kind {
        CloseKind::Local => Some(View::LocalCurrent),
        CloseKind::Remote => Some(View::RemoteCurrent),
        CloseKind::NextRemote => Some(View::RemoteSigned),
        CloseKind::Mutual
        | CloseKind::LocalRevoked(_)
        | CloseKind::Revoked(_)
        | CloseKind::RemoteFuture(_)
        | CloseKind::Unknown => None,
    }
}
