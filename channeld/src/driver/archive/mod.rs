//! What is over and has left the node's memory: payments, invoices and channels, read from disk page by page.
//!
//! Knows the archive's rows by their keys and reads them by page, with what the node still has in memory in front. Never writes:
//! what may be forgotten is told to the node, which decides.

pub mod audit;
pub mod sweep;

use serde::de::DeserializeOwned;

use super::handle::Handle;
use crate::node::command::{Page, Query};
use crate::node::refusal::Refusal;
use crate::node::reply::{ChannelInfo, Paged, Reply};
use crate::node::state::change::Answered;
use crate::node::state::row::RowKey;
use crate::payment::receive::Invoice;
use crate::payment::send::Payment;
use crate::store::{Reader, RowPage, StoreError, Stream};
use crate::units::{ChannelId, NodeId, PaymentHash, ShortChannelId};

/// Page positions at or above this are payments in flight, by their own index; below, ended ones by theirs.
const IN_FLIGHT: u64 = 1 << 62;

/// A page of payments. Those in flight are the newest; then come those that ended, in the order in which they ended.
pub async fn payments(handle: &Handle, page: Page) -> Result<Reply, Refusal> {
    let after = page.after.and_then(|after| after.checked_sub(IN_FLIGHT));
    // The newest first and already among those that ended: nothing in flight comes after.
    let is_past = page.newest_first && page.after.is_some() && after.is_none();
    let in_flight = match handle.ask_node(Query::ListPayments(Page { after, size: page.size + 1, ..page })).await? {
        Reply::Payments(paged) if !is_past => paged.items,
        _ => Vec::new(),
    };
    let reader = handle.reader.clone();
    blocking(move || payments_page(&reader, in_flight, page).map(Reply::Payments)).await
}

fn payments_page(reader: &Reader, in_flight: Vec<Payment>, page: Page) -> Result<Paged<Payment>, Refusal> {
    let size = page.size as usize;
    let mut items: Vec<(u64, Payment)> = Vec::new();
    let open = in_flight.into_iter().map(|payment| (IN_FLIGHT + payment.index, payment));
    if page.newest_first {
        items.extend(open);
        let before = page.after.unwrap_or(u64::MAX).min(IN_FLIGHT);
        let room = (size + 1).saturating_sub(items.len());
        let ended = reader.history_before(Stream::Payments, before, room).map_err(unreadable)?;
        items.extend(ended.into_iter().filter_map(decode_entry));
    } else {
        let after = page.after.unwrap_or(0);
        if after < IN_FLIGHT {
            let ended = reader.history_after(Stream::Payments, after, size + 1).map_err(unreadable)?;
            items.extend(ended.into_iter().filter_map(decode_entry));
        }
        items.extend(open);
    }
    Ok(cut(items, size))
}

/// A page of invoices, by index: open ones are in the node's memory, the rest is here.
pub async fn invoices(handle: &Handle, page: Page) -> Result<Reply, Refusal> {
    let more = Page { size: page.size + 1, ..page };
    let open = match handle.ask_node(Query::ListInvoices(more)).await? {
        Reply::Invoices(paged) => paged.items,
        _ => Vec::new(),
    };
    let reader = handle.reader.clone();
    blocking(move || {
        let ended: Vec<(u64, Invoice)> = ended(&reader, RowKey::EndedInvoice, more, |_| true)?;
        let open = open.into_iter().map(|invoice| (invoice.index, invoice));
        Ok(Reply::Invoices(merged(open.chain(ended).collect(), page)))
    })
    .await
}

/// A page of channels, by index: living ones are in the node's memory, those that are over are here.
pub async fn channels(handle: &Handle, peer: Option<NodeId>, page: Page) -> Result<Reply, Refusal> {
    let more = Page { size: page.size + 1, ..page };
    let living = match handle.ask_node(Query::ListChannels { peer, page: more }).await? {
        Reply::Channels(paged) => paged.items,
        _ => Vec::new(),
    };
    let reader = handle.reader.clone();
    blocking(move || {
        let wanted = |info: &ChannelInfo| peer.is_none_or(|peer| info.peer == peer);
        let ended: Vec<(u64, ChannelInfo)> = ended(&reader, RowKey::EndedChannel, more, wanted)?;
        let living = living.into_iter().map(|info| (info.index, info));
        Ok(Reply::Channels(merged(living.chain(ended).collect(), page)))
    })
    .await
}

/// Archived rows that are named by their index: so many as the page wants of those that are `wanted`, in its order.
fn ended<T: DeserializeOwned>(
    reader: &Reader,
    key: fn(u64) -> RowKey,
    page: Page,
    wanted: impl Fn(&T) -> bool,
) -> Result<Vec<(u64, T)>, Refusal> {
    let prefix = &key(0).bytes()[..1];
    let mut from = page.after.map(|after| key(after).bytes());
    let mut items = Vec::new();
    loop {
        let limit = page.size as usize - items.len();
        let part = RowPage { prefix, from: from.as_deref(), limit, descending: page.newest_first };
        let rows = reader.page(&part).map_err(unreadable)?;
        let is_last = rows.len() < limit;
        from = rows.last().map(|(key, _)| key.clone());
        let found = rows.iter().filter_map(|(key, bytes)| {
            let index = u64::from_be_bytes(key.get(1..)?.try_into().ok()?);
            Some((index, postcard::from_bytes(bytes).ok()?))
        });
        items.extend(found.filter(|(_, item)| wanted(item)));
        if is_last || items.len() == page.size as usize {
            return Ok(items);
        }
    }
}

/// The part of memory and archive together that a page asks for. What ended a moment ago may be in both; then the first
/// counts.
fn merged<T>(mut items: Vec<(u64, T)>, page: Page) -> Paged<T> {
    items.sort_by_key(|(index, _)| if page.newest_first { u64::MAX - *index } else { *index });
    items.dedup_by_key(|(index, _)| *index);
    cut(items, page.size as usize)
}

/// The answer to an earlier call.
pub fn answered(reader: &Reader, request_id: &str) -> Option<Answered> {
    let row = reader.row(&RowKey::Answer(RowKey::answer_name(request_id)).bytes());
    let bytes = row.map_err(|error| tracing::error!(%error, "the archive cannot be read")).ok()??;
    postcard::from_bytes(&bytes).ok()
}

/// A payment that ended.
pub fn payment(reader: &Reader, hash: &PaymentHash) -> Result<Reply, Refusal> {
    let row = reader.row(&RowKey::EndedPayment(*hash).bytes()).map_err(unreadable)?;
    let place: u64 = row.and_then(|bytes| postcard::from_bytes(&bytes).ok()).ok_or(Refusal::PaymentNotFound)?;
    let entries = reader.history_after(Stream::Payments, place - 1, 1).map_err(unreadable)?;
    let payment = entries.into_iter().filter_map(decode_entry).map(|(_, payment)| payment).next();
    payment
        .filter(|payment| payment.payment_hash == *hash)
        .map(|payment| Reply::Payment(Box::new(payment)))
        .ok_or(Refusal::PaymentNotFound)
}

/// An invoice that ended.
pub fn invoice(reader: &Reader, hash: &PaymentHash) -> Result<Reply, Refusal> {
    let row = reader.row(&RowKey::EndedInvoiceIndex(*hash).bytes()).map_err(unreadable)?;
    let index: u64 = row.and_then(|bytes| postcard::from_bytes(&bytes).ok()).ok_or(Refusal::InvoiceNotFound)?;
    let row = reader.row(&RowKey::EndedInvoice(index).bytes()).map_err(unreadable)?;
    row.and_then(|bytes| postcard::from_bytes(&bytes).ok())
        .map(|invoice| Reply::Invoice(Box::new(invoice)))
        .ok_or(Refusal::InvoiceNotFound)
}

/// A channel that is over.
pub fn channel(reader: &Reader, id: ChannelId) -> Result<Reply, Refusal> {
    let row = reader.row(&RowKey::EndedChannelIndex(id).bytes()).map_err(unreadable)?;
    let index: u64 = row.and_then(|bytes| postcard::from_bytes(&bytes).ok()).ok_or(Refusal::ChannelNotFound(id))?;
    let row = reader.row(&RowKey::EndedChannel(index).bytes()).map_err(unreadable)?;
    row.and_then(|bytes| postcard::from_bytes(&bytes).ok())
        .map(|info| Reply::Channel(Box::new(info)))
        .ok_or(Refusal::ChannelNotFound(id))
}

/// A channel that is over, by its place on the chain.
pub fn channel_named(reader: &Reader, name: ShortChannelId) -> Result<Reply, Refusal> {
    let nobody = Refusal::ChannelNotFound(ChannelId([0; 32]));
    let row = reader.row(&RowKey::EndedChannelName(name).bytes()).map_err(unreadable)?;
    let id: Option<ChannelId> = row.and_then(|bytes| postcard::from_bytes(&bytes).ok());
    channel(reader, id.ok_or(nobody)?)
}

/// Whether a payment of this hash succeeded, however long ago. What ended a moment ago the node knows itself.
pub fn is_paid(reader: &Reader, hash: &PaymentHash) -> bool {
    matches!(payment(reader, hash), Ok(Reply::Payment(ended)) if ended.status.is_success())
}

fn decode_entry((index, bytes): (u64, Vec<u8>)) -> Option<(u64, Payment)> {
    postcard::from_bytes(&bytes).ok().map(|payment| (index, payment))
}

/// The first `size` items, and where to go on if there are more.
fn cut<T>(mut items: Vec<(u64, T)>, size: usize) -> Paged<T> {
    let more = items.len() > size;
    items.truncate(size);
    let next = items.last().filter(|_| more).map(|(place, _)| *place);
    Paged { items: items.into_iter().map(|(_, item)| item).collect(), next }
}

fn unreadable(error: StoreError) -> Refusal {
    tracing::error!(%error, "the archive cannot be read");
    Refusal::ShuttingDown
}

async fn blocking(work: impl FnOnce() -> Result<Reply, Refusal> + Send + 'static) -> Result<Reply, Refusal> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Refusal::ShuttingDown))
}
