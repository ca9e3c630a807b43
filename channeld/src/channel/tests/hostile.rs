//! A peer that sends anything: the machine answers with an error or goes on; it never panics and no money appears.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::transfer::SESSION;
use super::*;
use crate::commitment::CreditWindow;
use crate::wire::{
    self, ChannelReady, ChannelReestablish, ClosingSigned, CommitmentSigned, FeeRange, RevealedSecret, RevokeAndAck,
    TransferClose, TransferCloseReason, TransferOpen, TransferWindow, UpdateAddHtlc, UpdateFailHtlc,
    UpdateFailMalformedHtlc, UpdateFee, UpdateFulfillHtlc, UpdateTransfer,
};

/// A figure that is small, at an edge, or anything.
fn figure(random: &mut StdRng, edge: u64) -> u64 {
    match random.random_range(0..6) {
        0 => random.random_range(0..4),
        1 => edge,
        2 => edge.saturating_add(1),
        3 => u64::MAX - random.random_range(0..3),
        4 => random.random_range(0..1_100_000_000),
        _ => random.random::<u64>() >> random.random_range(0..64),
    }
}

/// Some message, made to be nearly right.
fn message(node: &Node, random: &mut StdRng) -> Message {
    match random.random_range(0..17) {
        0..7 => htlc_message(node, random),
        7..13 => commitment_message(node, random),
        _ => transfer_message(node, random),
    }
}

fn htlc_message(node: &Node, random: &mut StdRng) -> Message {
    let (channel_id, commitments) = (node.channel.id, node.commitments());
    let removed = HtlcId::new(random.random_range(0..commitments.next_outgoing.id() + 1));
    match random.random_range(0..7) {
        0..4 => {
            let any = HtlcId::new(figure(random, commitments.next_incoming.id()));
            UpdateAddHtlc {
                channel_id,
                id: if random.random_ratio(9, 10) { commitments.next_incoming } else { any },
                amount_msat: Msat::new(figure(random, commitments.tally(View::LocalNext).remote.msat())),
                payment_hash: hash(random.random()),
                cltv_expiry: CltvExpiry::new(random.random()),
                onion_routing_packet: OnionRoutingPacket::new([0; 1_366]),
                path_key: None,
            }
            .into()
        }
        4 => UpdateFulfillHtlc {
            channel_id,
            id: removed,
            payment_preimage: Preimage([random.random_range(0..4); 32]),
            attribution_data: None,
        }
        .into(),
        5 => UpdateFailHtlc { channel_id, id: removed, reason: vec![0; 10], attribution_data: None }.into(),
        _ => {
            let failure_code = random.random();
            UpdateFailMalformedHtlc { channel_id, id: removed, sha256_of_onion: [0; 32], failure_code }.into()
        }
    }
}

fn commitment_message(node: &Node, random: &mut StdRng) -> Message {
    let (channel_id, commitments) = (node.channel.id, node.commitments());
    let (point, signature) = (node.signer.node_id(), node.signer.sign_node([1; 32]));
    let secret = RevealedSecret([random.random(); 32]);
    match random.random_range(0..7) {
        0 => {
            let htlc_signatures = vec![signature; random.random_range(0..4)];
            CommitmentSigned { channel_id, signature, htlc_signatures, funding_txid: None }.into()
        }
        1 => RevokeAndAck { channel_id, per_commitment_secret: secret, next_per_commitment_point: point }.into(),
        2 => UpdateFee { channel_id, feerate_per_kw: FeeratePerKw::new(random.random()) }.into(),
        3 => ChannelReestablish {
            channel_id,
            next_commitment_number: figure(random, commitments.local_number.number()),
            next_revocation_number: figure(random, commitments.remote_number.number()),
            your_last_per_commitment_secret: secret,
            my_current_per_commitment_point: point,
            next_funding: None,
            my_current_funding_locked: None,
        }
        .into(),
        4 => ChannelReady { channel_id, second_per_commitment_point: point, short_channel_id: None }.into(),
        5 => {
            let scriptpubkey = if random.random_ratio(1, 20) { close_script(2) } else { bad_script() };
            wire::Shutdown { channel_id, scriptpubkey }.into()
        }
        _ => {
            let sat = |random: &mut StdRng| Amount::from_sat(figure(random, 500).min(Amount::MAX_MONEY.to_sat()));
            let fee_range = Some(FeeRange { min_fee_satoshis: sat(random), max_fee_satoshis: sat(random) });
            ClosingSigned { channel_id, fee_satoshis: sat(random), signature, fee_range }.into()
        }
    }
}

fn transfer_message(node: &Node, random: &mut StdRng) -> Message {
    let (channel_id, commitments) = (node.channel.id, node.commitments());
    let session_id = if random.random() { SESSION } else { crate::units::SessionId([random.random(); 32]) };
    let amount = Msat::new(figure(random, commitments.tally(View::LocalNext).remote.msat()));
    let sequence = figure(random, 0);
    match random.random_range(0..4) {
        0 => {
            let next = commitments.incoming_transfers.next_id;
            UpdateTransfer {
                channel_id,
                id: if random.random_ratio(9, 10) { next } else { sequence },
                session_id,
                first_sequence: sequence,
                last_sequence: figure(random, sequence),
                amount_msat: amount,
                payments: None,
            }
            .into()
        }
        1 => {
            let flags = random.random();
            TransferOpen { channel_id, session_id, next_sequence: sequence, sent_msat: amount, flags }.into()
        }
        2 => TransferWindow { channel_id, session_id, window_msat: amount, window_count: random.random() }.into(),
        _ => {
            let reason = TransferCloseReason::Other(random.random());
            TransferClose { channel_id, session_id, reason, next_sequence: sequence }.into()
        }
    }
}

#[test]
fn nothing_that_a_peer_sends_panics() {
    let mut accepted = 0;
    for seed in 0..20 {
        let mut random = StdRng::seed_from_u64(seed);
        let format = if seed % 2 == 0 { CommitmentFormat::Anchors } else { CommitmentFormat::StaticRemotekey };
        let mut pair = Pair::open(format);
        for byte in 0..3 {
            pair.b.add(20_000_000, byte).expect("goes");
        }
        pair.b.open_session(SESSION);
        pair.run();
        let window = CreditWindow { amount: Msat::new(1_000_000), count: 100 };
        let node = &mut pair.b;
        for _ in 0..400 {
            let message = message(node, &mut random);
            match node.try_step(Input::Message(message)) {
                Ok(()) => accepted += 1,
                Err(Error::Violated(violation)) => drop(violation.to_string()),
                Err(Error::Refused(refusal)) => panic!("a message is not a command: {refusal}"),
            }
            if !matches!(node.funded().phase, Phase::Open) {
                break;
            }
            match random.random_range(0..20) {
                0 => node.step(Input::Seal),
                1 => drop(node.add(1_000_000, 9)),
                2 => drop(node.command(Command::GrantWindow { session: SESSION, window })),
                3 => {
                    node.step(Input::Disconnected);
                    node.step(Input::Connected(FEATURES));
                }
                _ => {}
            }
        }
    }
    assert!(accepted > 300, "{accepted}");
}
