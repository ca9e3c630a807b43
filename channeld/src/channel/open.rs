//! Opening.

use super::{AcceptRequest, Channel, Context, Effect, Error, OpenRequest};
use crate::wire::OpenChannel;

impl Channel {
    /// Opens a channel: `open_channel` is the effect. The node keeps the channel as it is.
    ///
    /// # Errors
    /// [`Error::Refused`]
    pub fn open(_request: OpenRequest, _cx: &Context<'_>) -> Result<(Channel, Vec<Effect>), Error> {
        todo!()
    }

    /// Accepts the peer's `open_channel`: `accept_channel` is the effect. The node keeps the channel as it is.
    ///
    /// # Errors
    /// [`Error::Violated`]: nothing is kept, the node sends `error` with the temporary id.
    pub fn accept(
        _message: &OpenChannel,
        _request: AcceptRequest,
        _cx: &Context<'_>,
    ) -> Result<(Channel, Vec<Effect>), Error> {
        todo!()
    }
}
