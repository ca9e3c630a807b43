//! `DevService`.

use proto::v1::dev_service_server::DevService;
use proto::v1::{InjectFaultRequest, InjectFaultResponse, inject_fault_request};
use tonic::{Request, Response, Status};

use crate::driver::handle::Handle;
use crate::node::command::{Command, Fault};
use crate::node::reply::{FaultDone, Reply};
use crate::rpc::request;
use crate::rpc::status::{internal, invalid, refused};

/// See `proto/channeld/v1/dev.proto`.
pub struct Dev {
    handle: Handle,
}

impl Dev {
    /// Answers from this node.
    pub fn new(handle: Handle) -> Dev {
        Dev { handle }
    }

    async fn read(&self, message: &InjectFaultRequest) -> Result<Fault, Status> {
        match &message.fault {
            Some(inject_fault_request::Fault::KeepState(keep)) => {
                let channel = request::channel_id(&self.handle, "keep_state.channel_id", &keep.channel_id).await?;
                Ok(Fault::KeepState { channel })
            }
            Some(inject_fault_request::Fault::ReplayOldState(replay)) => {
                let field = "replay_old_state.channel_id";
                let channel = request::channel_id(&self.handle, field, &replay.channel_id).await?;
                Ok(Fault::ReplayOldState { channel })
            }
            Some(inject_fault_request::Fault::HoldHtlcs(hold)) => {
                let channel = request::channel_id(&self.handle, "hold_htlcs.channel_id", &hold.channel_id).await?;
                Ok(Fault::HoldHtlcs { channel, hold: hold.hold })
            }
            Some(inject_fault_request::Fault::Cut(cut)) => {
                Ok(Fault::Cut { peer: request::node_id("cut.node_id", &cut.node_id)? })
            }
            Some(inject_fault_request::Fault::Delay(slow)) => {
                let peer = request::node_id("delay.node_id", &slow.node_id)?;
                let delay = request::duration("delay.delay", slow.delay)?.unwrap_or_default();
                let millis = u32::try_from(delay.as_millis()).ok().filter(|millis| *millis <= 60_000);
                let millis = millis.ok_or_else(|| invalid("delay.delay", "longer than 60 seconds"))?;
                Ok(Fault::Delay { peer, millis })
            }
            None => Err(invalid("fault", "is missing")),
        }
    }
}

#[tonic::async_trait]
impl DevService for Dev {
    async fn inject_fault(
        &self,
        request: Request<InjectFaultRequest>,
    ) -> Result<Response<InjectFaultResponse>, Status> {
        let mut message = request.into_inner();
        let id = std::mem::take(&mut message.request_id);
        let key = request::key("InjectFault", &id, &message)?;
        let fault = self.read(&message).await?;
        if message.validate_only {
            return Ok(Response::new(InjectFaultResponse::default()));
        }
        match self.handle.command(Command::InjectFault(fault), key).await.map_err(refused)? {
            Reply::Fault(FaultDone::Kept { commitment, txid } | FaultDone::Replayed { commitment, txid }) => {
                let (txid, commitment_number) = (txid.to_string(), commitment.number());
                Ok(Response::new(InjectFaultResponse { txid, commitment_number }))
            }
            Reply::Fault(FaultDone::Held | FaultDone::Cut | FaultDone::Delayed) => {
                Ok(Response::new(InjectFaultResponse::default()))
            }
            _ => Err(internal("a fault expected")),
        }
    }
}
