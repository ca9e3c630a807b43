//! The services, one file each: a request is read, the driver's handle is asked, the answer is written.

mod channel;
mod dev;
mod graph;
mod invoice;
mod node;
mod payment;
mod peer;
mod route;
mod stream;
mod token;
mod wallet;

pub use channel::Channels;
pub use dev::Dev;
pub use graph::Graphs;
pub use invoice::Invoices;
pub use node::Nodes;
pub use payment::Payments;
pub use peer::Peers;
pub use token::TokenKeeper;
pub use wallet::Wallets;

use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// What a server stream is made of: a bounded queue, filled by a task that ends when the client goes.
type Answers<T> = ReceiverStream<Result<T, Status>>;

/// How many messages a server stream may hold that the client has not read.
const QUEUE: usize = 64;
