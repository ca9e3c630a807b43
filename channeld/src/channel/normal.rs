//! Normal operation.

use super::{Channel, Command, Context, Decision, Error};
use crate::wire::Message;

impl Channel {
    pub(super) fn receive(&self, _m: Message, _cx: &Context<'_>, _d: &mut Decision) -> Result<(), Error> {
        todo!()
    }
    pub(super) fn command(&self, _c: Command, _cx: &Context<'_>, _d: &mut Decision) -> Result<(), Error> {
        todo!()
    }
    pub(super) fn seal(&self, _cx: &Context<'_>, _d: &mut Decision) {
        todo!()
    }
}
