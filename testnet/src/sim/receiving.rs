//! Frames that reach a process: decoded, verified and handed to the driver as the node does it.

use quorate_crypto::ReplicaId;
use quorate_crypto::encoding::decode;
use quorate_node::driver::{DriverError, Published};
use quorate_protocol::client::message::{ClientMessage, ReplicaMessage, ReplicaStatus};
use quorate_protocol::engine::{Engine as _, Input, Now};
use quorate_protocol::message::{Message, MessageLimits};

use super::process::{Cluster, Running};

impl Running {
    /// A frame from a peer: decoded and verified as the node does it.
    pub(super) fn receive(&mut self, cluster: &Cluster, now: Now, from: usize, bytes: &[u8]) -> Result<(), String> {
        let committee = cluster.committee.as_ref();
        let limits = MessageLimits { window: cluster.parameters.window };
        let message: Message = decode(bytes, cluster.parameters.frame_bytes_max).map_err(|error| error.to_string())?;
        let verified = self.verifier.verify(message, committee, &limits).map_err(|error| error.to_string())?;
        let from = cluster.identity(from);
        if matches!(
            &*verified,
            Message::BlockProposal(_)
                | Message::Timeout(_)
                | Message::QuorumCertificate(_)
                | Message::TimeoutCertificate(_)
        ) {
            self.accepted.push(Message::clone(&verified));
        }
        if !matches!(&*verified, Message::Requests(_)) {
            self.driver.input(Input::Message { from, message: verified });
            return Ok(());
        }
        let Message::Requests(requests) = verified.into_inner() else { return Ok(()) };
        let mut good = Vec::with_capacity(requests.len());
        for request in requests {
            match self.verifier.verify(request.clone(), committee, &()) {
                Ok(request) => good.push(request),
                Err(_) => self.driver.input(Input::InvalidRequest(Box::new(request))),
            }
        }
        self.driver.relayed(from, good, now.wall);
        Ok(())
    }

    /// A frame from a client.
    pub(super) fn serve(
        &mut self,
        cluster: &Cluster,
        own: ReplicaId,
        now: Now,
        client: usize,
        bytes: &[u8],
        published: &mut Published,
    ) -> Result<Option<ReplicaMessage>, DriverError> {
        let Ok(message) = decode(bytes, quorate_protocol::client::message::CLIENT_FRAME_MAX) else { return Ok(None) };
        let at = now.monotonic;
        Ok(match message {
            ClientMessage::Submit(request) => {
                if let Ok(verified) = self.verifier.verify(request, &cluster.committee, &()) {
                    self.driver.submit(verified, now.wall, published);
                }
                None
            }
            ClientMessage::Status { id } => {
                let status = self.driver.engine().status();
                let execution = self.driver.execution();
                let status = ReplicaStatus {
                    replica: own,
                    view: status.view,
                    primary: status.primary,
                    executed: status.executed,
                    revision: quorate_protocol::execution::Service::revision(execution.service()),
                    time: execution.time(),
                    checkpoint: status.stable,
                    checkpoint_digest: status.stable_digest,
                };
                Some(ReplicaMessage::Status { id, status })
            }
            ClientMessage::Read { id, operation, revision } => {
                self.serving.read(client, id, &operation, revision.unwrap_or(0), at);
                None
            }
            ClientMessage::Watch { id, range, from_revision } => {
                self.serving.watch(client, id, &range, from_revision, at);
                None
            }
            ClientMessage::Unwatch { id } => {
                self.serving.unwatch(client, id);
                None
            }
            ClientMessage::Receipt { id, seq, index } => {
                Some(ReplicaMessage::Receipt { id, receipt: self.driver.receipt(seq, index)? })
            }
        })
    }
}
