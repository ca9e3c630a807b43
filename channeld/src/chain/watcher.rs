//! Follows the best chain from the daemon's tip on: blocks in, events out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Sender;

use super::backend::Backend;
use super::error::BackendError;
use super::{ChainEvent, ChainTip};
use crate::units::BlockHeight;

/// How long one wait for a new block may last; fees are asked for after each.
const LONG_POLL: Duration = Duration::from_secs(10);
/// Between two tries where the backend cannot wait for us, or has not answered for a while.
const PAUSE: Duration = Duration::from_secs(1);
/// After its first failure; doubled from then on. A backend that was started with us is there in a moment.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The task that asks the backend.
pub struct Watcher {
    backend: Backend,
    events: Sender<ChainEvent>,
    tip: ChainTip,
    /// On a development chain the tip is current whatever its age.
    ignores_age: bool,
    can_wait: bool,
    told_unavailable: bool,
    /// How long the next failure is waited out.
    pause: Duration,
}

/// Whether the receiver of events is still there.
enum Told {
    Yes,
    Gone,
}

impl Watcher {
    /// A watcher that goes on behind `tip`. A full channel of events makes it wait: the chain is never ahead by more.
    pub fn new(backend: Backend, events: Sender<ChainEvent>, tip: ChainTip, ignores_age: bool) -> Watcher {
        Watcher { backend, events, tip, ignores_age, can_wait: true, told_unavailable: false, pause: FIRST_PAUSE }
    }

    /// Runs until the receiver of events is gone.
    pub async fn run(mut self) {
        loop {
            let told = match self.catch_up().await {
                Ok(Told::Yes) => self.rest().await,
                Ok(Told::Gone) => Told::Gone,
                Err(error) => self.unavailable(&error).await,
            };
            if matches!(told, Told::Gone) {
                return;
            }
        }
    }

    /// Tells of everything between our tip and the backend's.
    async fn catch_up(&mut self) -> Result<Told, BackendError> {
        let info = self.backend.blockchain_info().await?;
        let best = BlockHeight::new(info.blocks);
        if matches!(self.leave_stale_blocks(best).await?, Told::Gone) {
            return Ok(Told::Gone);
        }
        while self.tip.hash != info.best_block_hash && self.tip.height < best {
            match self.connect_next().await? {
                Some(Told::Yes) => {}
                Some(Told::Gone) => return Ok(Told::Gone),
                // The chain turned away under us; the next round leaves what is stale.
                None => return Ok(Told::Yes),
            }
        }
        let is_current = self.ignores_age || !info.is_initial_download;
        if matches!(self.tell(ChainEvent::Progress { best, is_current }).await, Told::Gone) {
            return Ok(Told::Gone);
        }
        self.told_unavailable = false;
        self.pause = FIRST_PAUSE;
        let fees = self.backend.fee_estimates().await?;
        Ok(self.tell(ChainEvent::Fees(fees)).await)
    }

    /// Steps back from blocks that are not on the best chain any more.
    async fn leave_stale_blocks(&mut self, best: BlockHeight) -> Result<Told, BackendError> {
        loop {
            let header = match self.backend.header(self.tip.hash).await {
                Ok(header) => header,
                Err(error) if error.has_code(BackendError::NOT_FOUND) => {
                    let told = self.tell(ChainEvent::TipUnknown { tip: self.tip, best }).await;
                    return if matches!(told, Told::Gone) { Ok(Told::Gone) } else { Err(error) };
                }
                Err(error) => return Err(error),
            };
            if header.confirmations >= 0 {
                return Ok(Told::Yes);
            }
            let (Some(previous), Some(below)) = (header.previous_block_hash, self.tip.height.height().checked_sub(1))
            else {
                return Err(super::backend::malformed("getblockheader", "genesis is not on the best chain"));
            };
            let left = self.tip;
            self.tip = ChainTip { height: BlockHeight::new(below), hash: previous };
            let event = ChainEvent::BlockDisconnected { height: left.height, hash: left.hash, previous };
            if matches!(self.tell(event).await, Told::Gone) {
                return Ok(Told::Gone);
            }
        }
    }

    /// Tells of the block behind our tip; `None` where our tip is not on the best chain any more.
    async fn connect_next(&mut self) -> Result<Option<Told>, BackendError> {
        let height = self.tip.height.plus(1);
        let hash = match self.backend.block_hash(height.height()).await {
            Ok(hash) => hash,
            Err(error) if error.has_code(BackendError::INVALID_PARAMETER) => return Ok(None),
            Err(error) => return Err(error),
        };
        let block = self.backend.block(hash).await?;
        if block.header.prev_blockhash != self.tip.hash {
            return Ok(None);
        }
        self.tip = ChainTip { height, hash };
        Ok(Some(self.tell(ChainEvent::BlockConnected { height, block: Arc::new(block) }).await))
    }

    /// Waits until there may be something new.
    async fn rest(&mut self) -> Told {
        if self.can_wait {
            match self.backend.wait_for_new_tip(self.tip.hash, LONG_POLL).await {
                Ok(()) => {}
                // A backend that does not know the method or its second parameter is polled.
                Err(BackendError::Rpc { code, .. }) if code != -28 => self.can_wait = false,
                Err(error) => return self.unavailable(&error).await,
            }
        } else {
            tokio::time::sleep(PAUSE).await;
        }
        if self.events.is_closed() { Told::Gone } else { Told::Yes }
    }

    async fn unavailable(&mut self, error: &BackendError) -> Told {
        if !self.told_unavailable {
            self.told_unavailable = true;
            if matches!(self.tell(ChainEvent::Unavailable(error.to_string())).await, Told::Gone) {
                return Told::Gone;
            }
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE);
        if self.events.is_closed() { Told::Gone } else { Told::Yes }
    }

    async fn tell(&self, event: ChainEvent) -> Told {
        match self.events.send(event).await {
            Ok(()) => Told::Yes,
            Err(_) => Told::Gone,
        }
    }
}
