//! `channeld` as a process, and its gRPC over the unix socket.

use std::path::{Path, PathBuf};

use proto::v1::send_payment_request::Payee;
use proto::v1::{
    Channel, ConnectPeerRequest, CreateAddressRequest, CreateInvoiceRequest, Event, EventKind, GetBalancesRequest,
    GetBalancesResponse, GetNodeRequest, GetNodeResponse, InjectFaultRequest, InjectFaultResponse, Invoice,
    ListChannelsRequest, ListPaymentsRequest, OpenChannelRequest, Order, Payment, SubscribeEventsRequest,
    inject_fault_request,
};
use rustix::process::Signal;
use tonic::Status;
use wallet_cli::client::{Client, Presence, Target, request_id};
use wallet_cli::commands::payment::pay_to_end;
use wallet_cli::failure::Failure;

use crate::chain::ChainNode;
use crate::process::{Process, free_port};
use crate::wait::{soon, until};

/// A daemon of a cluster: running, killed or stopped.
pub struct Daemon {
    /// Its name.
    pub name: String,
    /// The process, while it runs.
    pub process: Option<Process>,
    data_dir: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    running: Option<(Presence, Client)>,
}

/// The arguments of a daemon in `data_dir` on free ports.
pub fn arguments(chain: &ChainNode, data_dir: &Path) -> Vec<String> {
    let address = || format!("127.0.0.1:{}", free_port());
    let pairs = [
        ("--network", "regtest".to_owned()),
        ("--data-dir", data_dir.display().to_string()),
        ("--chain", chain.url().to_owned()),
        ("--chain-cookie", chain.cookie().display().to_string()),
        ("--grpc", address()),
        ("--listen", address()),
    ];
    pairs.into_iter().flat_map(|(key, value)| [key.to_owned(), value]).collect()
}

impl Daemon {
    /// Starts a daemon with this config file's text, and waits until it answers.
    pub async fn start(folder: &Path, name: &str, chain: &ChainNode, config: &str) -> Daemon {
        let (data_dir, file) = (folder.join(name), folder.join(format!("{name}.toml")));
        std::fs::write(&file, config).unwrap();
        let mut arguments = arguments(chain, &data_dir);
        arguments.extend(["--alias".to_owned(), name.to_owned(), "--config".to_owned(), file.display().to_string()]);
        let log = folder.join(format!("{name}.log"));
        let name = name.to_owned();
        let mut daemon = Daemon { name, process: None, data_dir, arguments, log, running: None };
        daemon.restart().await;
        daemon
    }

    /// Starts the process, which is not waited for.
    pub fn launch(&mut self) {
        self.running = None;
        self.process = None;
        self.process = Some(Process::start("channeld", &self.arguments, &self.log));
    }

    /// Starts it again, on the same directory and ports, and waits until it answers.
    pub async fn restart(&mut self) {
        self.launch();
        self.answers().await;
    }

    /// Waits until the process that was launched answers.
    pub async fn answers(&mut self) {
        let process = self.process.as_mut().expect("it was launched");
        let (name, data_dir) = (&self.name, &self.data_dir);
        let what = format!("{name} to answer");
        let running = until(&what, async || {
            assert!(process.ended().is_none(), "{name} ended");
            let presence = Presence::read(data_dir, "regtest").ok()?;
            // A daemon that was killed leaves its file.
            if presence.pid != process.id() {
                return None;
            }
            let client = Client::connect(&presence.target().ok()?).await.ok()?;
            client.node().get_node(GetNodeRequest {}).await.ok()?;
            Some((presence, client))
        });
        self.running = Some(running.await);
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.running = None;
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// SIGTERM; waits for an end in good order.
    pub async fn stop(&mut self) {
        self.running = None;
        let mut process = self.process.take().expect("it runs");
        process.signal(Signal::TERM);
        let status = process.end().await;
        assert!(status.success(), "{} ended with {status}", self.name);
    }

    /// Whether the process is there.
    pub fn is_up(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// The way to it.
    pub fn client(&self) -> &Client {
        &self.running.as_ref().expect("it runs").1
    }

    /// What it says of itself.
    pub fn presence(&self) -> &Presence {
        &self.running.as_ref().expect("it runs").0
    }

    /// The way over TCP, with TLS and token.
    pub fn tcp_target(&self) -> Target {
        self.presence().tcp_target().unwrap()
    }

    /// Its directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// How it was started.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Its node id.
    pub fn id(&self) -> String {
        self.presence().node_id.clone()
    }

    /// `id@host:port`.
    pub fn address(&self) -> String {
        format!("{}@{}", self.id(), self.presence().listen.expect("it listens"))
    }

    /// Who it is, and where on the chain.
    pub async fn node(&self) -> GetNodeResponse {
        self.client().node().get_node(GetNodeRequest {}).await.unwrap().into_inner()
    }

    /// What it owns.
    pub async fn balances(&self) -> GetBalancesResponse {
        self.client().node().get_balances(GetBalancesRequest {}).await.unwrap().into_inner()
    }

    /// A fresh address of its wallet.
    pub async fn wallet_address(&self) -> String {
        let request = CreateAddressRequest { request_id: request_id().unwrap(), validate_only: false };
        self.client().wallet().create_address(request).await.unwrap().into_inner().address
    }

    /// Connects to another one.
    pub async fn connect(&self, to: &Daemon) {
        self.call(to.address()).await;
    }

    /// Connects to whoever answers there.
    pub async fn call(&self, address: String) {
        let request = ConnectPeerRequest { request_id: request_id().unwrap(), validate_only: false, address };
        soon("a session", self.client().peer().connect_peer(request)).await.unwrap();
    }

    /// Asks it to open a channel: `wanted` is named and given its peer here.
    ///
    /// # Errors
    /// What it refuses with.
    pub async fn open(&self, peer: String, wanted: OpenChannelRequest) -> Result<Channel, tonic::Status> {
        let request = OpenChannelRequest { request_id: request_id().unwrap(), peer_node_id: peer, ..wanted };
        let opened = soon("an opening", self.client().channel().open_channel(request)).await?;
        Ok(opened.into_inner().channel.expect("a channel"))
    }

    /// All its channels.
    pub async fn channels(&self) -> Vec<Channel> {
        let request = ListChannelsRequest { page_size: 1_000, ..Default::default() };
        self.client().channel().list_channels(request).await.unwrap().into_inner().channels
    }

    /// One of its channels.
    pub async fn channel(&self, id: &str) -> Channel {
        let found = self.channels().await.into_iter().find(|channel| channel.channel_id == id);
        found.unwrap_or_else(|| panic!("{} has no channel {id}", self.name))
    }

    /// Waits until one of its channels is as `wanted` says.
    pub async fn channel_until(&self, what: &str, id: &str, mut wanted: impl FnMut(&Channel) -> bool) -> Channel {
        until(&format!("{}: channel {what}", self.name), async || {
            self.channels().await.into_iter().find(|channel| channel.channel_id == id && wanted(channel))
        })
        .await
    }

    /// All payments it ever sent, the oldest first.
    pub async fn payments(&self) -> Vec<Payment> {
        let (mut payments, mut token) = (Vec::new(), String::new());
        loop {
            let order = Order::OldestFirst.into();
            let request = ListPaymentsRequest { page_size: 1_000, page_token: token, order };
            let page = self.client().payment().list_payments(request).await.unwrap().into_inner();
            payments.extend(page.payments);
            token = page.next_page_token;
            if token.is_empty() {
                return payments;
            }
        }
    }

    /// A payment as lists show it: without the ways of its attempts.
    pub fn summary(mut payment: Payment) -> Payment {
        payment.attempts.iter_mut().for_each(|attempt| attempt.hops.clear());
        payment
    }

    /// Makes an invoice.
    pub async fn invoice(&self, amount_msat: Option<u64>) -> Invoice {
        let request = CreateInvoiceRequest {
            request_id: request_id().unwrap(),
            amount_msat,
            description: "test".into(),
            ..Default::default()
        };
        self.client().invoice().create_invoice(request).await.unwrap().into_inner().invoice.expect("an invoice")
    }

    /// Pays, and waits for the end of it.
    pub async fn pay(&self, payee: Payee, amount_msat: Option<u64>) -> Payment {
        self.try_pay(payee, amount_msat).await.unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Pays, and waits for the end of it.
    ///
    /// # Errors
    /// Where the daemon refuses to begin.
    pub async fn try_pay(&self, payee: Payee, amount_msat: Option<u64>) -> Result<Payment, Failure> {
        soon("a payment", pay_to_end(self.client(), payee, amount_msat)).await
    }

    /// Pays a node by its key, and waits for the end of it.
    pub async fn keysend(&self, to: &str, amount_msat: u64) -> Payment {
        self.pay(Payee::NodeId(to.to_owned()), Some(amount_msat)).await
    }

    /// Injects a fault.
    ///
    /// # Errors
    /// Where the daemon refuses.
    pub async fn inject(&self, fault: inject_fault_request::Fault) -> Result<InjectFaultResponse, Status> {
        let request =
            InjectFaultRequest { request_id: request_id().unwrap(), validate_only: false, fault: Some(fault) };
        Ok(self.client().dev().inject_fault(request).await?.into_inner())
    }

    /// All events of these kinds so far, the oldest first.
    pub async fn events(&self, kinds: &[EventKind]) -> Vec<Event> {
        let request = SubscribeEventsRequest { after_index: Some(0), ..Default::default() };
        let mut stream = self.client().node().subscribe_events(request).await.unwrap().into_inner();
        let first = soon("a subscription", stream.message()).await.unwrap().expect("its first message");
        let (last, mut events) = (first.last_event_index, Vec::<Event>::new());
        while events.last().map_or(0, |event| event.index) < last {
            let message = soon("an event", stream.message()).await.unwrap().expect("the log goes on");
            events.extend(message.event);
        }
        events.retain(|event| kinds.contains(&event.kind()));
        events
    }
}
