//! What the archive may forget is looked for page by page, so that nothing ever scans it: answers that are a day old, and
//! penalty rows of channels that are over. The node decides and writes; this only reads, but for the event log, whose
//! oldest segments it deletes: strangers who connect write into it, and may not fill the disk.

use std::time::{Duration, Instant};

use crate::node::input::Input;
use crate::node::state::change::OldAnswer;
use crate::node::state::row::RowKey;
use crate::store::{Reader, RowPage, StoreError, Stream as History};
use crate::units::{ChannelId, PaymentHash, UnixTime};

/// Answers to mutating calls are kept at least this long, in seconds (AIP-155).
const KEEP_ANSWERS_SECONDS: u64 = 24 * 3_600;
/// Between two looks where there was little to forget, and where there was more than a page.
const LOOK: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(1);
/// Rows that are looked at at once: what the node's thread can spare.
const ROWS: usize = 500;
/// Segments of the event log that are kept: 256 MiB, some millions of events.
const EVENT_SEGMENTS: usize = 64;
/// The first byte of the rows' keys, by age and by channel.
const AGES: u8 = 0x87;
const OVER: u8 = 0x88;

/// See the file's map.
pub struct Sweeper {
    due: Instant,
    /// Where the last page of ages ended, where there were more: those before it are about payments in flight.
    cursor: Option<Vec<u8>>,
}

impl Sweeper {
    /// Looks first when the daemon has run for a while.
    pub fn new() -> Sweeper {
        Sweeper { due: Instant::now() + LOOK, cursor: None }
    }

    /// What may be forgotten now, if it is time to look and there is something.
    pub fn look(&mut self, reader: &Reader, now: UnixTime) -> Option<Input> {
        if Instant::now() < self.due { None } else { self.look_now(reader, now) }
    }

    /// The same without a look at the clock.
    pub fn look_now(&mut self, reader: &Reader, now: UnixTime) -> Option<Input> {
        self.due = Instant::now() + LOOK;
        if let Err(error) = reader.keep_history(History::Events, EVENT_SEGMENTS) {
            tracing::warn!(%error, "the oldest events could not be deleted");
        }
        let found = self.answers(reader, now).and_then(|answers| Ok((answers, penalties(reader)?)));
        match found {
            Ok((answers, penalties)) if answers.is_empty() && penalties.is_none() => None,
            Ok((answers, penalties)) => {
                if answers.len() == ROWS || penalties.is_some() {
                    self.due = Instant::now() + SOON;
                }
                Some(Input::Forgettable { answers, penalties })
            }
            Err(error) => {
                tracing::warn!(%error, "the archive could not be looked through");
                None
            }
        }
    }

    fn answers(&mut self, reader: &Reader, now: UnixTime) -> Result<Vec<OldAnswer>, StoreError> {
        let before = UnixTime::from_seconds(now.seconds().saturating_sub(KEEP_ANSWERS_SECONDS));
        let page = RowPage { prefix: &[AGES], from: self.cursor.as_deref(), limit: ROWS, descending: false };
        let rows = reader.page(&page)?;
        let full = rows.len() == ROWS;
        let last = rows.last().map(|(key, _)| key.clone());
        let old: Vec<OldAnswer> =
            rows.iter().filter_map(|(key, value)| old_answer(key, value)).filter(|old| old.at < before).collect();
        self.cursor = last.filter(|_| full && old.len() == ROWS);
        Ok(old)
    }
}

fn old_answer(key: &[u8], value: &[u8]) -> Option<OldAnswer> {
    let (_, rest) = key.split_first()?;
    let (at, name) = rest.split_first_chunk::<8>()?;
    let payment: Option<PaymentHash> = postcard::from_bytes(value).ok()?;
    Some(OldAnswer { at: UnixTime::new(u64::from_be_bytes(*at)), name: name.try_into().ok()?, payment })
}

/// A page of the penalty rows of a channel that is over, and whether it is the last.
#[allow(clippy::type_complexity, reason = "what `Input::Forgettable` holds")]
fn penalties(reader: &Reader) -> Result<Option<(ChannelId, Vec<Vec<u8>>, bool)>, StoreError> {
    let over = RowPage { prefix: &[OVER], from: None, limit: 1, descending: false };
    let over = reader.page(&over)?;
    let channel = over.first().and_then(|(key, _)| <[u8; 32]>::try_from(key.get(1..)?).ok());
    let Some(channel) = channel.map(ChannelId) else { return Ok(None) };
    let prefix = RowKey::penalties_of(channel);
    let rows = reader.page(&RowPage { prefix: &prefix, from: None, limit: ROWS, descending: false })?;
    let last = rows.len() < ROWS;
    Ok(Some((channel, rows.into_iter().map(|(key, _)| key).collect(), last)))
}
