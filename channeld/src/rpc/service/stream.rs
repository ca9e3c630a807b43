//! `PaymentService.StreamPayments`: what has arrived goes to the node in one piece; what the node says comes back as the
//! newest marks, so that neither a fast client nor a slow one fills memory.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use proto::v1::stream_payments_request::Request as Said;
use proto::v1::stream_payments_response::Response as Answer;
use proto::v1::{
    ErrorReason, StreamOpen, StreamOpened, StreamPay as Pay, StreamPayBatch, StreamPaymentsRequest,
    StreamPaymentsResponse, StreamProgress, StreamWindow, stream_open,
};
use tokio::sync::{mpsc, watch};
use tonic::{Code, Status, Streaming};

use crate::driver::handle::{Handle, StreamSender, StreamUpdates};
use crate::node::command::{OpenStream, StreamPay, StreamTarget};
use crate::payment::stream::StreamStatus;
use crate::rpc::service::{Answers, QUEUE};
use crate::rpc::status::{invalid, refused, status, unreadable};
use crate::rpc::{convert, request};
use crate::units::{ChannelId, Msat, SessionId};

/// The most payments in one piece.
const LARGEST_BATCH: usize = 1_000;
/// The longest batch delay.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

type Out = mpsc::Sender<Result<StreamPaymentsResponse, Status>>;

/// Reads `Open`, opens the session and starts the two tasks of the stream.
pub async fn start(
    handle: Handle,
    mut said: Streaming<StreamPaymentsRequest>,
) -> Result<Answers<StreamPaymentsResponse>, Status> {
    let Some(StreamPaymentsRequest { request: Some(Said::Open(mut open)) }) =
        said.message().await.map_err(unreadable)?
    else {
        return Err(out_of_order("the first message must be open"));
    };
    let id = std::mem::take(&mut open.request_id);
    let key = request::key("StreamPayments", &id, &open)?;
    let stream = handle.open_stream(read_open(&handle, &open).await?, key).await.map_err(refused)?;
    let opened = stream.opened.clone();
    let (out, answers) = mpsc::channel(QUEUE);
    let first = Answer::Opened(StreamOpened {
        session_id: opened.session.to_string(),
        channel_id: if opened.channel == ChannelId::ALL { String::new() } else { opened.channel.to_string() },
        available_msat: opened.available.msat(),
        committed_sequence: opened.committed_sequence,
        accepted_sequence: opened.accepted_sequence,
    });
    // The queue is fresh: there is room for the first message.
    let _ = out.try_send(Ok(StreamPaymentsResponse { response: Some(first) }));
    let (sender, updates) = stream.split();
    let (end, ended) = watch::channel(None);
    tokio::spawn(take_in(said, sender, opened.session, end));
    tokio::spawn(give_out(updates, out, ended));
    Ok(Answers::new(answers))
}

fn out_of_order(message: &str) -> Status {
    status(Code::InvalidArgument, ErrorReason::StreamOrder, message)
}

async fn read_open(handle: &Handle, open: &StreamOpen) -> Result<OpenStream, Status> {
    let target = match &open.destination {
        Some(stream_open::Destination::ChannelId(text)) => {
            StreamTarget::Channel(request::channel_id(handle, "channel_id", text).await?)
        }
        Some(stream_open::Destination::PeerNodeId(text)) => StreamTarget::Node(request::node_id("peer_node_id", text)?),
        None => return Err(invalid("destination", "give channel_id or peer_node_id")),
    };
    let resume = match open.session_id.as_str() {
        "" => None,
        text => Some(request::id32::<SessionId>("session_id", text)?),
    };
    let limit = |field, msat| Ok::<_, Status>(Some(request::msat(field, msat)?).filter(|limit| *limit != Msat::ZERO));
    let delay = request::duration("batch_delay", open.batch_delay)?.unwrap_or_default();
    if delay > LONGEST_DELAY {
        return Err(invalid("batch_delay", "longer than 60 seconds"));
    }
    Ok(OpenStream {
        target,
        resume,
        max_total: limit("max_total_msat", open.max_total_msat)?,
        max_uncommitted: limit("max_uncommitted_msat", open.max_uncommitted_msat)?,
        max_payments_per_second: Some(open.max_payments_per_second).filter(|limit| *limit > 0),
        batch_delay_millis: delay.as_millis() as u32,
    })
}

/// Payments on their way to the node: a row of sequences without a gap.
struct Batch {
    session: SessionId,
    first_sequence: u64,
    amounts: Vec<Msat>,
    tags: Vec<(u32, [u8; 32])>,
}

impl Batch {
    fn new(session: SessionId) -> Batch {
        Batch { session, first_sequence: 0, amounts: Vec::new(), tags: Vec::new() }
    }

    /// Whether a payment with this sequence can be put behind the others.
    fn continues_with(&self, sequence: u64) -> bool {
        let next = self.first_sequence.checked_add(self.amounts.len() as u64);
        self.amounts.is_empty() || (self.amounts.len() < LARGEST_BATCH && next == Some(sequence))
    }

    fn push(&mut self, sequence: u64, amount: Msat, tag: Option<[u8; 32]>) {
        if self.amounts.is_empty() {
            self.first_sequence = sequence;
        }
        if let Some(tag) = tag {
            self.tags.push((self.amounts.len() as u32, tag));
        }
        self.amounts.push(amount);
    }

    /// The sequence of the last payment, 0 where there is none.
    fn last_sequence(&self) -> u64 {
        match self.amounts.len() as u64 {
            0 => 0,
            count => self.first_sequence.saturating_add(count - 1),
        }
    }

    fn take(&mut self) -> StreamPay {
        StreamPay {
            session: self.session,
            first_sequence: self.first_sequence,
            amounts: std::mem::take(&mut self.amounts),
            tags: std::mem::take(&mut self.tags),
        }
    }
}

/// The way in: reads, gathers, hands over.
struct Intake {
    sender: StreamSender,
    batch: Batch,
    /// The last sequence that was handed over.
    handed_over: u64,
}

impl Intake {
    /// Hands over what was gathered; waits while the node has taken as much as it may.
    async fn flush(&mut self) -> Result<(), Status> {
        if self.batch.amounts.is_empty() {
            return Ok(());
        }
        self.handed_over = self.handed_over.max(self.batch.last_sequence());
        self.sender.pay(self.batch.take()).await.map_err(refused)
    }

    async fn add(&mut self, sequence: u64, amount_msat: u64, tag: &[u8]) -> Result<(), Status> {
        if sequence == 0 {
            return Err(invalid("sequence", "sequences begin with 1"));
        }
        if amount_msat == 0 {
            return Err(invalid("amount_msat", "must be at least 1"));
        }
        let amount = request::msat("amount_msat", amount_msat)?;
        let tag = match tag.len() {
            0 => None,
            _ => Some(<[u8; 32]>::try_from(tag).map_err(|_| invalid("tag", "must be empty or 32 bytes"))?),
        };
        if !self.batch.continues_with(sequence) {
            self.flush().await?;
        }
        self.batch.push(sequence, amount, tag);
        Ok(())
    }

    async fn add_batch(&mut self, batch: StreamPayBatch) -> Result<(), Status> {
        if batch.amounts_msat.len() > LARGEST_BATCH {
            return Err(invalid("amounts_msat", format!("more than {LARGEST_BATCH}")));
        }
        for (place, amount_msat) in batch.amounts_msat.into_iter().enumerate() {
            let sequence = batch.first_sequence.checked_add(place as u64);
            let sequence = sequence.ok_or_else(|| invalid("first_sequence", "out of range"))?;
            self.add(sequence, amount_msat, &[]).await?;
        }
        Ok(())
    }

    /// Takes one message; true after `Finish`.
    async fn take(&mut self, message: StreamPaymentsRequest) -> Result<bool, Status> {
        match message.request {
            Some(Said::Pay(Pay { sequence, amount_msat, tag })) => self.add(sequence, amount_msat, &tag).await?,
            Some(Said::PayBatch(batch)) => self.add_batch(batch).await?,
            Some(Said::Finish(_)) => {
                self.flush().await?;
                self.sender.finish().await.map_err(refused)?;
                return Ok(true);
            }
            Some(Said::Open(_)) => return Err(out_of_order("the stream is open already")),
            None => return Err(invalid("request", "is missing")),
        }
        Ok(false)
    }

    /// Until `Finish` (true), or the end of what the client says (false): waits for a message, takes with it all that
    /// has arrived, and hands that over in one piece.
    async fn run(&mut self, said: &mut Streaming<StreamPaymentsRequest>) -> Result<bool, Status> {
        while let Some(message) = said.next().await {
            if self.take(message.map_err(unreadable)?).await? {
                return Ok(true);
            }
            while let Some(Some(message)) = said.next().now_or_never() {
                if self.take(message.map_err(unreadable)?).await? {
                    return Ok(true);
                }
            }
            self.flush().await?;
        }
        Ok(false)
    }
}

/// How the way in ended, but for `Finish`, after which the way out goes on to `Closed`.
#[derive(Clone)]
enum End {
    /// The client says no more; it still gets to know what becomes of its payments up to this sequence.
    Left(u64),
    /// The client said what cannot be, or the node stops.
    Failed(Status),
}

/// The task of the way in. It ends with the way out, at the latest.
async fn take_in(
    mut said: Streaming<StreamPaymentsRequest>,
    sender: StreamSender,
    session: SessionId,
    end: watch::Sender<Option<End>>,
) {
    let mut intake = Intake { sender, batch: Batch::new(session), handed_over: 0 };
    let ended = tokio::select! {
        ended = intake.run(&mut said) => ended,
        () = end.closed() => return,
    };
    let _ = match ended {
        Ok(true) => Ok(()),
        Ok(false) => end.send(Some(End::Left(intake.handed_over))),
        Err(error) => end.send(Some(End::Failed(error))),
    };
    end.closed().await;
}

/// The task of the way out: the newest marks, whenever the client has room for them.
async fn give_out(mut updates: StreamUpdates, out: Out, mut ended: watch::Receiver<Option<End>>) {
    let mut marks = Marks::default();
    loop {
        let end = ended.borrow_and_update().clone();
        match end {
            Some(End::Left(last)) if marks.committed >= last => return,
            Some(End::Failed(error)) => {
                let _ = out.send(Err(error)).await;
                return;
            }
            _ => {}
        }
        let status = tokio::select! {
            status = updates.next() => status,
            Ok(()) = ended.changed() => continue,
            () = out.closed() => return,
        };
        let Some(status) = status else { return };
        for answer in marks.answers(&status) {
            if out.send(Ok(StreamPaymentsResponse { response: Some(answer) })).await.is_err() {
                return;
            }
        }
        if status.closed.is_some() {
            return;
        }
    }
}

/// What the client was told last.
#[derive(Default)]
struct Marks {
    committed: u64,
    progress: Option<StreamProgress>,
    window: Option<StreamWindow>,
}

impl Marks {
    /// What is new to the client in this status.
    fn answers(&mut self, status: &StreamStatus) -> Vec<Answer> {
        self.committed = status.committed_sequence;
        let mut answers = Vec::with_capacity(2);
        let (progress, window) = (convert::progress(status), convert::window(status.window));
        if self.progress.as_ref() != Some(&progress) {
            answers.push(Answer::Progress(progress));
            self.progress = Some(progress);
        }
        if let Some(closed) = convert::stream_closed(status) {
            answers.push(Answer::Closed(closed));
        } else if self.window.as_ref() != Some(&window) {
            answers.push(Answer::Window(window));
            self.window = Some(window);
        }
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_a_row_without_a_gap() {
        let mut batch = Batch::new(SessionId([1; 32]));
        assert!(batch.continues_with(5));
        batch.push(5, Msat::new(1), None);
        assert!(batch.continues_with(6) && !batch.continues_with(7) && !batch.continues_with(5));
        batch.push(6, Msat::new(2), Some([9; 32]));
        assert_eq!(batch.last_sequence(), 6);
        let pay = batch.take();
        assert_eq!((pay.first_sequence, pay.amounts.len(), pay.tags), (5, 2, vec![(1, [9; 32])]));
        assert!(batch.continues_with(100));
    }

    #[test]
    fn a_batch_is_bounded() {
        let mut batch = Batch::new(SessionId([1; 32]));
        for sequence in 1..=LARGEST_BATCH as u64 {
            assert!(batch.continues_with(sequence));
            batch.push(sequence, Msat::new(1), None);
        }
        assert!(!batch.continues_with(LARGEST_BATCH as u64 + 1));
        let mut last = Batch::new(SessionId([1; 32]));
        last.push(u64::MAX, Msat::new(1), None);
        assert!(!last.continues_with(0));
    }
}
