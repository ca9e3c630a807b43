//! What is over and has left the node's memory: payments, invoices and channels, read from disk page by page.

use serde::de::DeserializeOwned;

use super::handle::Handle;
use crate::node::command::{Page, Query};
use crate::node::refusal::Refusal;
use crate::node::reply::{ChannelInfo, Paged, Reply};
use crate::node::state::row::RowKey;
use crate::payment::receive::Invoice;
use crate::payment::send::Payment;
use crate::store::{Reader, StoreError, Stream};
use crate::units::{ChannelId, NodeId, PaymentHash};

/// Page positions at or above this are payments in flight, by their own index; below, ended ones by theirs.
const IN_FLIGHT: u64 = 1 << 62;

/// A page of payments. Those in flight are the newest; then come those that ended, in the order in which they ended.
pub async fn payments(handle: &Handle, page: Page) -> Result<Reply, Refusal> {
    let in_flight = match handle.ask_node(Query::ListPayments(Page { after: None, ..page })).await? {
        Reply::Payments(paged) => paged.items,
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
        let before = page.after.unwrap_or(u64::MAX);
        items.extend(open.filter(|(place, _)| *place < before));
        items.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
        items.truncate(size + 1);
        let room = size + 1 - items.len();
        let ended = reader.history_before(Stream::Payments, before.min(IN_FLIGHT), room).map_err(unreadable)?;
        items.extend(ended.into_iter().filter_map(decode_entry));
    } else {
        let after = page.after.unwrap_or(0);
        if after < IN_FLIGHT {
            let ended = reader.history_after(Stream::Payments, after, size + 1).map_err(unreadable)?;
            items.extend(ended.into_iter().filter_map(decode_entry));
        }
        let mut open: Vec<_> = open.filter(|(place, _)| *place > after).collect();
        open.sort_by_key(|(place, _)| *place);
        items.extend(open);
    }
    Ok(cut(items, size))
}

/// A page of invoices, by index: open ones are in the node's memory, the rest is here.
pub async fn invoices(handle: &Handle, page: Page) -> Result<Reply, Refusal> {
    let open = match handle.ask_node(Query::ListInvoices(Page { after: None, ..page })).await? {
        Reply::Invoices(paged) => paged.items,
        _ => Vec::new(),
    };
    let reader = handle.reader.clone();
    blocking(move || {
        let ended: Vec<Invoice> = ended(&reader, &RowKey::EndedInvoice(0))?;
        let all = ended.into_iter().chain(open).map(|invoice| (invoice.index, invoice)).collect();
        Ok(Reply::Invoices(merged(all, page)))
    })
    .await
}

/// A page of channels, by index: living ones are in the node's memory, those that are over are here.
pub async fn channels(handle: &Handle, peer: Option<NodeId>, page: Page) -> Result<Reply, Refusal> {
    let everything = Page { after: None, size: u32::MAX, newest_first: false };
    let living = match handle.ask_node(Query::ListChannels { peer, page: everything }).await? {
        Reply::Channels(paged) => paged.items,
        _ => Vec::new(),
    };
    let reader = handle.reader.clone();
    blocking(move || {
        let ended: Vec<ChannelInfo> = ended(&reader, &RowKey::EndedChannel(0))?;
        let wanted = ended.into_iter().filter(|info| peer.is_none_or(|peer| info.peer == peer));
        let all = wanted.chain(living).map(|info| (info.index, info)).collect();
        Ok(Reply::Channels(merged(all, page)))
    })
    .await
}

/// All archived rows of the kind of `key`.
fn ended<T: DeserializeOwned>(reader: &Reader, key: &RowKey) -> Result<Vec<T>, Refusal> {
    let rows = reader.rows(&key.bytes()[..1]).map_err(unreadable)?;
    Ok(rows.values().filter_map(|bytes| postcard::from_bytes(bytes).ok()).collect())
}

/// The part of memory and archive together that a page asks for. What ended a moment ago may be in both.
fn merged<T>(mut items: Vec<(u64, T)>, page: Page) -> Paged<T> {
    items.sort_by_key(|(index, _)| *index);
    items.dedup_by_key(|(index, _)| *index);
    if page.newest_first {
        items.reverse();
        items.retain(|(index, _)| page.after.is_none_or(|after| *index < after));
    } else {
        items.retain(|(index, _)| page.after.is_none_or(|after| *index > after));
    }
    cut(items, page.size as usize)
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
