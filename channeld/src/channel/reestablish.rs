//! Reconnecting.

use super::{Channel, Context, Decision, SessionFeatures};

impl Channel {
    pub(super) fn connect(&self, _f: SessionFeatures, _cx: &Context<'_>, _d: &mut Decision) {
        todo!()
    }
    pub(super) fn disconnect(&self, _d: &mut Decision) {
        todo!()
    }
}
