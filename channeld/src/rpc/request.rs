//! How a request is read: ids, amounts, pages and the name of a repetition.

use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use proto::v1::{ErrorReason, Order};
use sha2::{Digest, Sha256};
use tonic::{Code, Status};

use crate::driver::handle::Handle;
use crate::node::command::{Page, Query, RequestKey};
use crate::node::refusal::Refusal;
use crate::node::reply::Reply;
use crate::rpc::status::{internal, invalid, refused, status};
use crate::units::{ChannelId, FeeratePerKw, Msat, ShortChannelId};

/// The most that a list may return.
const LARGEST_PAGE: i32 = 1_000;
/// What a list returns where the client does not say.
const DEFAULT_PAGE: i32 = 100;
/// The longest `request_id`.
const LONGEST_REQUEST_ID: usize = 64;
/// All the money there can be: 21e14 sat.
const MAX_MONEY_SAT: u64 = 2_100_000_000_000_000;

/// A field that is an id in text; `what` says in the error what it should be.
pub fn id<T: FromStr>(field: &str, text: &str, what: &str) -> Result<T, Status> {
    text.parse().map_err(|_| invalid(field, format!("not {what}")))
}

/// A field that is 32 bytes in 64 hex digits.
pub fn id32<T: FromStr>(field: &str, text: &str) -> Result<T, Status> {
    id(field, text, "64 hexadecimal digits")
}

/// A field that is a node's key.
pub fn node_id<T: FromStr>(field: &str, text: &str) -> Result<T, Status> {
    id(field, text, "a public key in 66 hexadecimal digits")
}

/// A field that is a channel's id, or its short channel id.
pub async fn channel_id(handle: &Handle, field: &str, text: &str) -> Result<ChannelId, Status> {
    if !text.contains('x') {
        return id(field, text, "a channel id in 64 hexadecimal digits, nor a short channel id such as 100x1x0");
    }
    let wanted: ShortChannelId = id(field, text, "a short channel id such as 100x1x0")?;
    match handle.query(Query::ChannelNamed(wanted)).await {
        Ok(Reply::Channel(channel)) => Ok(channel.channel_id),
        Ok(_) => Err(internal("a channel expected")),
        Err(Refusal::ChannelNotFound(_)) => {
            Err(status(Code::NotFound, ErrorReason::ChannelNotFound, format!("no channel {wanted}")))
        }
        Err(refusal) => Err(refused(refusal)),
    }
}

/// An amount off chain: at most all the money there is.
pub fn msat(field: &str, amount_msat: u64) -> Result<Msat, Status> {
    if amount_msat > MAX_MONEY_SAT * 1_000 {
        return Err(invalid(field, "more than there is"));
    }
    Ok(Msat::new(amount_msat))
}

/// An amount on chain: at most all the money there is.
pub fn sat(field: &str, amount_sat: u64) -> Result<u64, Status> {
    if amount_sat > MAX_MONEY_SAT {
        return Err(invalid(field, "more than there is"));
    }
    Ok(amount_sat)
}

/// A feerate, at least what nodes relay.
pub fn feerate(sat_per_kw: Option<u32>) -> Result<Option<FeeratePerKw>, Status> {
    let Some(figure) = sat_per_kw else { return Ok(None) };
    let feerate = FeeratePerKw::new(figure);
    if feerate < FeeratePerKw::FLOOR {
        return Err(invalid("feerate_per_kw", format!("below {}, which no node relays", FeeratePerKw::FLOOR)));
    }
    Ok(Some(feerate))
}

/// A duration that is not negative.
pub fn duration(field: &str, duration: Option<prost_types::Duration>) -> Result<Option<Duration>, Status> {
    let Some(duration) = duration else { return Ok(None) };
    // Not by the conversion of prost-types, which negates what is negative: the least number has no opposite.
    let (seconds, nanos) = (u64::try_from(duration.seconds), u32::try_from(duration.nanos));
    match (seconds, nanos) {
        (Ok(seconds), Ok(nanos @ ..=999_999_999)) => Ok(Some(Duration::new(seconds, nanos))),
        _ => Err(invalid(field, "negative or out of range")),
    }
}

/// The part of a list that is asked for. A token holds the list's name, the order and the index to go on after.
pub fn page(list: &str, page_size: i32, page_token: &str, order: i32) -> Result<Page, Status> {
    if !(0..=LARGEST_PAGE).contains(&page_size) {
        return Err(invalid("page_size", format!("must be 0 to {LARGEST_PAGE}")));
    }
    let size = if page_size == 0 { DEFAULT_PAGE } else { page_size } as u32;
    let order = Order::try_from(order).map_err(|_| invalid("order", "not a value of Order"))?;
    let newest_first = order != Order::OldestFirst;
    let after = if page_token.is_empty() { None } else { Some(read_token(list, newest_first, page_token)?) };
    Ok(Page { after, size, newest_first })
}

/// The token for the next part.
pub fn page_token(list: &str, newest_first: bool, next: Option<u64>) -> String {
    next.map(|after| URL_SAFE_NO_PAD.encode(format!("{list}/{newest_first}/{after}"))).unwrap_or_default()
}

fn read_token(list: &str, newest_first: bool, token: &str) -> Result<u64, Status> {
    let bytes = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
    let text = String::from_utf8(bytes).unwrap_or_default();
    let after = text.strip_prefix(&format!("{list}/{newest_first}/")).and_then(|index| index.parse().ok());
    let refusal = "page_token: not made for this list in this order";
    after.ok_or_else(|| status(Code::InvalidArgument, ErrorReason::InvalidPageToken, refusal))
}

/// The name of a mutating call, so that a repetition is answered from the first. `request` is what it says without its
/// `request_id`.
pub fn key<M: Message>(method: &str, request_id: &str, request: &M) -> Result<Option<RequestKey>, Status> {
    if request_id.is_empty() {
        return Ok(None);
    }
    if request_id.len() > LONGEST_REQUEST_ID {
        return Err(invalid("request_id", format!("longer than {LONGEST_REQUEST_ID} bytes")));
    }
    let body = Sha256::new().chain_update(method).chain_update([0]).chain_update(request.encode_to_vec()).finalize();
    Ok(Some(RequestKey { id: request_id.to_string(), body: body.into() }))
}

#[cfg(test)]
mod tests {
    use proto::v1::{CreateInvoiceRequest, ListPeersRequest};

    use super::*;

    #[test]
    fn a_page_token_is_good_for_its_list_and_order_alone() {
        let token = page_token("peers", true, Some(7));
        assert_eq!(page("peers", 0, &token, 0).unwrap(), Page { after: Some(7), size: 100, newest_first: true });
        for (list, token, order) in [("invoices", &token, 0), ("peers", &token, 2), ("peers", &"x!".to_string(), 0)] {
            assert_eq!(page(list, 0, token, order).unwrap_err().code(), Code::InvalidArgument);
        }
        assert_eq!(page_token("peers", true, None), "");
    }

    #[test]
    fn a_page_has_a_size_and_an_order() {
        assert_eq!(page("peers", 1_000, "", 2).unwrap(), Page { after: None, size: 1_000, newest_first: false });
        for (size, order) in [(1_001, 0), (-1, 0), (1, 9)] {
            let request = ListPeersRequest { page_size: size, page_token: String::new(), order };
            assert!(page("peers", request.page_size, "", request.order).is_err());
        }
    }

    #[test]
    fn a_request_is_named_by_method_and_body() {
        let request = CreateInvoiceRequest { amount_msat: Some(1), ..Default::default() };
        let other = CreateInvoiceRequest { amount_msat: Some(2), ..Default::default() };
        let first = key("CreateInvoice", "a", &request).unwrap().unwrap();
        assert_eq!(first, key("CreateInvoice", "a", &request).unwrap().unwrap());
        assert_ne!(first.body, key("CreateInvoice", "a", &other).unwrap().unwrap().body);
        assert_ne!(first.body, key("CancelInvoice", "a", &request).unwrap().unwrap().body);
        assert_eq!(key("CreateInvoice", "", &request).unwrap(), None);
        assert!(key("CreateInvoice", &"a".repeat(65), &request).is_err());
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        assert!(msat("amount_msat", u64::MAX).is_err());
        assert!(sat("amount_sat", MAX_MONEY_SAT + 1).is_err());
        assert!(sat("amount_sat", MAX_MONEY_SAT).is_ok());
        assert!(feerate(Some(252)).is_err());
        assert!(feerate(None).unwrap().is_none());
        let is_wrong = |seconds, nanos| duration("expiry", Some(prost_types::Duration { seconds, nanos })).is_err();
        for wrong in [(-1, 0), (i64::MIN, 0), (0, -1), (0, i32::MIN), (1, 1_000_000_000), (i64::MIN, i32::MIN)] {
            assert!(is_wrong(wrong.0, wrong.1), "{wrong:?}");
        }
        assert!(!is_wrong(i64::MAX, 999_999_999) && !is_wrong(0, 0));
        assert!(id32::<ChannelId>("channel_id", "00").is_err());
    }
}
