//! Peers by hand: what a node makes of messages that no node of ours would send.

mod flood;
mod opening;
mod word;

use bitcoin::Amount;
use bitcoin::constants::ChainHash;
use bitcoin::hashes::Hash;

use super::ledger::genesis;
use super::world::World;
use crate::channel::{self, Channel, Context, Policy, SessionFeatures};
use crate::keys::{Signer, Words};
use crate::node::event::EventKind;
use crate::node::input::{Input, SessionNumber};
use crate::units::{BlockHeight, ChannelId, FeeratePerKw, NodeId};
use crate::wire::{self, Features, Message};

/// A peer that is no node of ours.
struct Stranger {
    signer: Signer,
    policy: Policy,
    session: SessionNumber,
    /// Whom it talks to.
    with: usize,
}

impl Stranger {
    fn call(world: &mut World, with: usize, seed: u8) -> Stranger {
        let signer = Signer::new(&Words::from_entropy(&[seed; 32]).seed());
        let session = SessionNumber(1_000_000 + u64::from(seed));
        let stranger = Stranger { signer, policy: Policy::default(), session, with };
        stranger.connect(world);
        stranger
    }

    fn id(&self) -> NodeId {
        NodeId(self.signer.node_id())
    }

    fn connect(&self, world: &mut World) {
        let (peer, session, features) = (self.id(), self.session, Features::init());
        world.input(self.with, Input::Connected { peer, session, features, inbound: true, address: None });
        world.outside.clear();
    }

    fn leave(&self, world: &mut World) {
        world.input(self.with, Input::Disconnected { peer: self.id(), session: self.session });
    }

    /// Says something; what the node answers at once.
    fn say(&self, world: &mut World, message: impl Into<Message>) -> Vec<Message> {
        let messages = vec![message.into()];
        world.input(self.with, Input::Messages { peer: self.id(), session: self.session, messages });
        world.outside.drain(..).collect()
    }

    fn context(&self) -> Context<'_> {
        Context {
            signer: &self.signer,
            chain_hash: ChainHash::from(genesis().block_hash().to_byte_array()),
            height: BlockHeight::new(1),
            close_feerate: FeeratePerKw::FLOOR,
            policy: &self.policy,
        }
    }

    /// Steps a channel of its own; what that makes it do.
    fn step(&self, channel: &mut Channel, input: channel::Input) -> Vec<channel::Effect> {
        let (delta, effects) = channel.decide(input, &self.context()).expect("no fault of the node's");
        channel.apply(&delta);
        effects
    }
}

fn features() -> SessionFeatures {
    SessionFeatures::negotiate(&Features::init(), &Features::init())
}

fn sent(effects: &[channel::Effect]) -> Message {
    let [channel::Effect::Send(message)] = effects else { panic!("{effects:?}") };
    message.clone()
}

/// The one message that came.
fn only(messages: Vec<Message>) -> Message {
    let [message] = <[Message; 1]>::try_from(messages).expect("one message");
    message
}

fn events(world: &World, who: usize, is: impl Fn(&EventKind) -> bool) -> usize {
    world.members[who].events.iter().filter(|event| is(&event.kind)).count()
}

const FUNDING: Amount = Amount::from_sat(1_000_000);

fn error(channel_id: ChannelId) -> wire::Error {
    wire::Error { channel_id, data: b"no".to_vec() }
}
