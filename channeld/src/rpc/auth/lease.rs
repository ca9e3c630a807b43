//! A call lasts no longer than the token that it was made with: what is still open ends when the token does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderMap;
use hyper::body::{Body as HttpBody, Bytes, Frame};
use tonic::Status;
use tonic::body::Body;

use super::{Tokens, now};

/// At the latest after so long a token's time is looked at again: the clock may have been set.
const LOOK: Duration = Duration::from_secs(60);

/// What a call was begun with: a token that the owner made, by its index in the book.
#[derive(Clone)]
pub struct Lease {
    tokens: Arc<Tokens>,
    index: u64,
}

impl Lease {
    /// For the token with that index.
    pub fn new(tokens: Arc<Tokens>, index: u64) -> Lease {
        Lease { tokens, index }
    }

    /// What the client says, as long as the token lasts.
    pub fn request(&self, body: Body) -> Body {
        Body::new(Lent::new(self.clone(), body, Side::Request))
    }

    /// What the client is told, as long as the token lasts; then the reason.
    pub fn answer(&self, body: Body) -> Body {
        Body::new(Lent::new(self.clone(), body, Side::Answer))
    }

    /// Done when the token is over, with what the client is told.
    async fn ended(self) -> Status {
        let mut news = self.tokens.revocations.subscribe();
        loop {
            let left = match self.tokens.standing(self.index, now()) {
                Ok(left) => left.map_or(LOOK, Duration::from_secs).min(LOOK),
                Err(over) => return over.refusal(),
            };
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                // The sender is in `self.tokens`: it is never gone.
                _ = news.changed() => {}
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Answer,
}

/// A body that ends with a lease.
struct Lent {
    inner: Body,
    side: Side,
    ended: Pin<Box<dyn Future<Output = Status> + Send>>,
    /// The first message of an answer, and its end, always pass: what was done is said, also where it was to revoke the
    /// token itself.
    begun: bool,
    over: bool,
}

impl Lent {
    fn new(lease: Lease, inner: Body, side: Side) -> Lent {
        Lent { inner, side, ended: Box::pin(lease.ended()), begun: side == Side::Request, over: false }
    }

    fn end(&mut self, status: &Status) -> Option<Result<Frame<Bytes>, Status>> {
        self.over = true;
        // Whoever fills it learns that nobody listens.
        self.inner = Body::empty();
        if self.side == Side::Request {
            return Some(Err(status.clone()));
        }
        let mut trailers = HeaderMap::new();
        Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers)))
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let next = Pin::new(&mut self.inner).poll_frame(context);
        let passes = match &next {
            Poll::Ready(Some(Ok(frame))) => !frame.is_data() || !std::mem::replace(&mut self.begun, true),
            Poll::Ready(_) => true,
            Poll::Pending => false,
        };
        if passes {
            return next;
        }
        match self.ended.as_mut().poll(context) {
            Poll::Ready(status) => Poll::Ready(self.end(&status)),
            Poll::Pending => next,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    use super::super::{NewToken, Scope};
    use super::*;

    type Sender = mpsc::Sender<Result<Frame<Bytes>, Status>>;

    fn tokens() -> (tempfile::TempDir, Arc<Tokens>, String) {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Arc::new(Tokens::open(folder.path()).unwrap());
        let new = NewToken { name: "till".into(), scopes: vec![Scope::Read], methods: Vec::new(), expires: None };
        let id = tokens.create(new, None).unwrap().0.id;
        (folder, tokens, id)
    }

    fn stream() -> (Sender, Body) {
        let (sender, receiver) = mpsc::channel(4);
        (sender, Body::new(StreamBody::new(ReceiverStream::new(receiver))))
    }

    fn data(text: &'static str) -> Result<Frame<Bytes>, Status> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    #[tokio::test]
    async fn an_open_stream_ends_with_its_token() {
        let (_folder, tokens, id) = tokens();
        let (sender, body) = stream();
        let mut answer = Lease::new(Arc::clone(&tokens), 1).answer(body);
        sender.send(data("one")).await.unwrap();
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
        let waiting = tokio::spawn(async move { (answer.frame().await, answer.frame().await.is_none()) });
        tokio::task::yield_now().await;
        tokens.revoke(&id, None).unwrap();
        let (last, is_end) = waiting.await.unwrap();
        let trailers = last.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!((trailers["grpc-status"].to_str().unwrap(), is_end), ("16", true));
        assert!(sender.is_closed(), "whoever fills the stream learns it");
    }

    #[tokio::test]
    async fn nothing_more_is_taken_and_one_answer_still_given() {
        let (_folder, tokens, id) = tokens();
        let lease = Lease::new(Arc::clone(&tokens), 1);
        let ((asks, asked), (answers, answered)) = (stream(), stream());
        let (mut request, mut answer) = (lease.request(asked), lease.answer(answered));
        tokens.revoke(&id, None).unwrap();
        asks.send(data("pay")).await.unwrap();
        assert!(request.frame().await.unwrap().is_err() && request.frame().await.is_none());
        for text in ["revoked", "more"] {
            answers.send(data(text)).await.unwrap();
        }
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "revoked");
        assert!(answer.frame().await.unwrap().unwrap().is_trailers());
    }

    #[tokio::test]
    async fn a_token_that_expires_ends_too() {
        let (folder, tokens, _) = tokens();
        let new =
            NewToken { name: "short".into(), scopes: vec![Scope::Read], methods: Vec::new(), expires: Some(now() - 1) };
        tokens.create(new, None).unwrap();
        let status = Lease::new(tokens, 2).ended().await;
        assert!(status.message().contains("time is over"), "{status:?}");
        drop(folder);
    }
}
