//! A real LDK node beside a real `channeld`, on the same chain: every cell of the matrix is a test. Either opens, in either
//! format; then they pay, cut the wire, close together or by force. Channels are private but in `gossip`.

mod blinded;
mod direct;
mod gossip;
mod middle;
mod stream;
mod wire;

use bitcoin::Amount;
use lightning::events::{Event, PaymentPurpose};
use lightning::types::payment::PaymentPreimage;
use lightning_invoice::Bolt11Invoice;
use proto::v1::send_payment_request::Payee;
use proto::v1::{
    Channel, ChannelType, ConnectPeerRequest, OpenChannelRequest, Payment, PaymentState, open_channel_request,
};
use tests::chain::nobody;
use tests::cluster::BRIEF;
use tests::wait::soon;
use tests::{Cluster, Daemon, LdkNode, LdkTerms, until};
use wallet_cli::client::request_id;

const CAPACITY_SAT: u64 = 1_000_000;
const PUSH_MSAT: u64 = 400_000_000;
const ANCHORS_MSAT: u64 = 660_000;

/// Who opens the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opener {
    Ours,
    Ldk,
}

/// Ours and LDK's node, and one channel between them.
struct Meeting {
    cluster: Cluster,
    ldk: LdkNode,
    channel: String,
    /// Whether the channel is announced.
    public: bool,
}

/// The tests of one scenario: one a cell.
macro_rules! cells {
    ($scenario:path: $($name:ident = ($opener:ident, $format:ident),)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $scenario(Opener::$opener, ChannelType::$format).await;
            }
        )*
    };
}
use cells;

impl Meeting {
    /// Both have coins; nothing is open yet. The channel's id is empty.
    async fn prepare(format: ChannelType, public: bool) -> Meeting {
        Meeting::prepare_with(&["alice"], format, public).await
    }

    /// The same, with these of ours.
    async fn prepare_with(names: &[&str], format: ChannelType, public: bool) -> Meeting {
        let cluster = Cluster::start(names, BRIEF).await;
        let terms = LdkTerms { anchors: format == ChannelType::Anchors, public };
        let ldk = LdkNode::start(&cluster.chain, terms).await;
        cluster.chain.mine(3, &ldk.wallet_address()).await;
        cluster.fund().await;
        ldk.synced(&cluster.chain).await;
        Meeting { cluster, ldk, channel: String::new(), public }
    }

    /// With an open channel of which the accepter has 400,000 sat.
    async fn open(opener: Opener, format: ChannelType) -> Meeting {
        let mut meeting = Meeting::prepare(format, false).await;
        meeting.connect(meeting.ldk.peer_address()).await;
        meeting.open_channel(opener, format).await;
        meeting
    }

    fn alice(&self) -> &Daemon {
        self.cluster.alice()
    }

    fn alice_id(&self) -> secp256k1::PublicKey {
        self.alice().id().parse().unwrap()
    }

    /// Alice calls.
    async fn connect(&self, address: String) {
        let request = ConnectPeerRequest { request_id: request_id().unwrap(), validate_only: false, address };
        soon("a session", self.alice().client().peer().connect_peer(request)).await.unwrap();
    }

    async fn open_channel(&mut self, opener: Opener, format: ChannelType) {
        match opener {
            Opener::Ours => {
                let request = OpenChannelRequest {
                    request_id: request_id().unwrap(),
                    peer_node_id: self.ldk.node_id().to_string(),
                    amount: Some(open_channel_request::Amount::CapacitySat(CAPACITY_SAT)),
                    push_msat: PUSH_MSAT,
                    channel_type: format.into(),
                    announce: self.public,
                    ..Default::default()
                };
                soon("an opening", self.alice().client().channel().open_channel(request)).await.unwrap();
            }
            Opener::Ldk => self.ldk.open(self.alice_id(), CAPACITY_SAT, PUSH_MSAT),
        }
        let ldk = self.ldk.node_id().to_string();
        let opened = until("a channel", async || {
            self.alice().channels().await.into_iter().find(|channel| channel.peer_node_id == ldk)
        })
        .await;
        assert_eq!(opened.channel_type(), format, "{opener:?} opens");
        self.cluster.chain.await_mempool(&opened.funding_outpoint.unwrap().txid).await;
        self.channel = opened.channel_id;
        self.mine(6).await;
        self.usable().await;
    }

    async fn mine(&self, blocks: u32) {
        self.cluster.chain.mine(blocks, &nobody()).await;
        self.cluster.synced().await;
        self.ldk.synced(&self.cluster.chain).await;
    }

    /// Waits until both ends can use the channel.
    async fn usable(&self) {
        self.alice().channel_until("usable", &self.channel, |channel| channel.usable).await;
        until("LDK to use the channel", async || {
            self.ldk.channels().iter().any(|channel| channel.is_usable).then_some(())
        })
        .await;
    }

    /// Waits until no HTLC is left, and both agree on what is whose; Alice's view of it.
    async fn settled(&self) -> Channel {
        until("both ends to agree", async || {
            let channel = self.alice().channel(&self.channel).await;
            let theirs = self.ldk.channels().into_iter().next()?;
            let none = theirs.pending_inbound_htlcs.is_empty() && theirs.pending_outbound_htlcs.is_empty();
            let reserve = theirs.unspendable_punishment_reserve.unwrap_or(0) * 1_000;
            let quiet = channel.htlcs.is_empty() && none && channel.usable && theirs.is_usable;
            // LDK tells what it can spend: what is its own less the reserve, and less the anchors where it opened.
            let own = channel.remote_msat.saturating_sub(reserve);
            let agreed =
                own.checked_sub(theirs.outbound_capacity_msat).is_some_and(|less| [0, ANCHORS_MSAT].contains(&less));
            (quiet && agreed).then_some(channel)
        })
        .await
    }

    /// Alice pays LDK's invoice.
    async fn pay(&self, amount_msat: u64) -> Payment {
        self.pay_invoice(&self.ldk.invoice(Some(amount_msat))).await
    }

    async fn pay_invoice(&self, invoice: &Bolt11Invoice) -> Payment {
        self.alice().pay(Payee::PaymentRequest(invoice.to_string()), None).await
    }

    /// LDK pays Alice's invoice; what it says of it.
    async fn is_paid(&self, amount_msat: u64) -> Result<u64, String> {
        let invoice = self.alice().invoice(Some(amount_msat)).await;
        let invoice: Bolt11Invoice = invoice.payment_request.parse().expect("LDK reads our invoice");
        self.ldk.paid(self.ldk.pay(&invoice)?).await
    }

    /// What the preimage is of the payment that LDK has waiting.
    async fn claimable(&self) -> PaymentPreimage {
        self.ldk
            .event("a payment to claim", |event| match event {
                Event::PaymentClaimable { purpose, .. } => preimage(purpose),
                _ => None,
            })
            .await
    }

    async fn ours_sat(&self) -> u64 {
        tests::money::wallet_sat(self.alice()).await
    }

    fn ldks(&self) -> Amount {
        self.ldk.wallet().balance()
    }
}

fn preimage(purpose: &PaymentPurpose) -> Option<PaymentPreimage> {
    purpose.preimage()
}

fn assert_paid(payment: &Payment) {
    assert_eq!(payment.state(), PaymentState::Succeeded, "{payment:?}");
}
