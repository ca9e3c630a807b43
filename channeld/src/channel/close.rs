//! Closing together.

use super::{Channel, Context, Decision};

impl Channel {
    pub(super) fn follow_up(&self, _cx: &Context<'_>, _d: &mut Decision) {
        todo!()
    }
}
