//! What happens in a world of more than two: a channel along each wire, payments between any two, and a hop that may lie.

use channeld::units::Preimage;
use channeld::wire::Message;
use rand::prelude::*;

use super::schedule::Mood;
use super::world::World;

/// Things that happen at most: each sets more going than between two.
const MOST_EVENTS: u32 = 60;

impl World {
    /// A channel is opened along each wire; then what the seed wants happens.
    pub fn play_network(&mut self, mood: &mut Mood) {
        mood.events = mood.events.min(MOST_EVENTS);
        self.rough = false;
        self.connect();
        self.drain();
        for wire in 0..self.links.len() {
            let [one, other] = self.links[wire].ends;
            let (who, peer) = if self.one_in(2) { (one, other) } else { (other, one) };
            self.open_with(who, peer);
            self.drain();
        }
        for _ in 0..4 {
            self.mine(false);
            self.drain();
        }
        assert_eq!(self.ready_channels().len(), self.links.len(), "a channel along each wire");
        if self.one_in(3) {
            self.liar = Some(self.rng.random_range(self.everybody()));
        }
        self.rough = !self.one_in(3);
        for _ in 0..mood.events {
            self.wait_for_flushes();
            self.happen(mood);
            self.run_a_while();
        }
        // Everybody is honest in the end, so that what is on its way comes to its end.
        self.liar = None;
    }

    /// A liar's failures are noise; now and then it shows a preimage that is none, which costs it the channel.
    pub fn lie(&mut self, who: usize, message: &mut Message) {
        if self.liar != Some(who) {
            return;
        }
        match message {
            Message::UpdateFailHtlc(message) => {
                let place = self.rng.random_range(0..message.reason.len().max(1));
                if let Some(byte) = message.reason.get_mut(place) {
                    *byte ^= 0x55;
                    self.ledger.count("garbled failures");
                }
            }
            Message::UpdateFulfillHtlc(message) if self.rng.random_ratio(1, 12) => {
                message.payment_preimage = Preimage([9; 32]);
                let channel = message.channel_id;
                self.ledger.force(channel);
                self.ledger.count("false preimages");
            }
            _ => {}
        }
    }
}
