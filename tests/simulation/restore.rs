//! A daemon comes back from an old copy of its disk (BOLT 2, data-loss protection): it must not sign or broadcast anything of
//! a channel that has gone on, and gets its balance when the other end closes.

use channeld::channel::Phase;
use channeld::units::ChannelId;

use super::disk::Disk;
use super::world::World;

/// Blocks in which everything that the other end closes is resolved.
const BLOCKS: u32 = 160;

/// A disk that was copied, and whose it is.
pub type Copied = Option<(usize, Disk)>;

impl World {
    /// Takes a copy of a disk, for later.
    pub fn take_copy(&mut self) {
        let who = usize::from(self.one_in(2));
        if self.copy.is_none() && !self.ready_channels().is_empty() {
            self.copy = Some((who, self.parties[who].backup()));
        }
    }

    /// Whether there is a copy.
    pub const fn has_copy(&self) -> bool {
        self.copy.is_some()
    }

    /// The end of a world in which a copy is put back.
    pub fn play_restored(&mut self) {
        self.heal();
        self.check_quiet();
        let Some((who, copy)) = self.copy.take() else { return };
        let open = self.open_channels();
        self.crash(who);
        self.drain();
        self.parties[who].restore(copy);
        self.ledger.restored = Some(who);
        for id in &open {
            self.ledger.force(*id);
        }
        let outdated: Vec<ChannelId> = open.iter().filter(|id| self.is_outdated(who, id)).copied().collect();
        self.ledger.outdated = outdated.iter().copied().collect();
        self.ledger.count("restores");
        let (name, count) = (self.parties[who].name, outdated.len());
        self.say(format_args!("{name} comes back from a copy; {count} of {} channels have gone on", open.len()));
        self.start(who);
        self.heal();
        let entry = |world: &World, id: &ChannelId| world.parties[who].durable.channels.get(id).cloned();
        for id in &outdated {
            self.ledger.count("outdated channels");
            let channel = entry(self, id).map(|entry| entry.channel);
            let phase = channel.as_ref().and_then(|channel| channel.funded()).map(|funded| &funded.phase);
            assert!(!matches!(phase, Some(Phase::Open | Phase::Failed { .. })), "{id} is outdated: {phase:?}");
        }
        for _ in 0..BLOCKS {
            if outdated.iter().all(|id| entry(self, id).is_none()) {
                return;
            }
            self.connect();
            self.mine(false);
            self.drain();
        }
        panic!("whoever lost its data never gets its balances back");
    }

    /// Whether the other end has secrets of commitments that this one still takes for current.
    fn is_outdated(&self, who: usize, id: &ChannelId) -> bool {
        let commitments = |who: usize| self.parties[who].durable.channels.get(id)?.channel.commitments();
        let (Some(own), Some(other)) = (commitments(who), commitments(1 - who)) else { return false };
        own.local_number < other.remote_number
    }
}
