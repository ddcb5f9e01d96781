//! What runs in the process of one replica: the node library, its engine and its answers behind behaviours that are off
//! until somebody turns them on, and the control socket to do that.

use std::io;
use std::process::ExitCode;

use quorate_crypto::ReplicaId;
use quorate_keys::PassphraseSource;
use quorate_node::command::start_logging;
use quorate_node::config::Config;
use quorate_node::failure::NodeError;
use quorate_node::process::{Node, NodeSettings};
use quorate_protocol::engine::Engine;
use quorate_protocol::foundation::Setup;
use quorate_protocol::replica::Replica;
use tokio::signal::unix::{SignalKind, signal};

use super::control::{self, Server};
use super::directory::Directory;
use crate::faults::{FaultyFace, FaultyReplica, Hands, Switch};

/// Exit code after a second signal.
const INTERRUPTED: i32 = 130;

/// Runs replica `id` of the testnet in `directory` until it is told to stop. `behaviours` are on from its first step.
/// Exit codes are those of `quorate-node`.
pub fn run(directory: &Directory, id: ReplicaId, behaviours: &[String]) -> ExitCode {
    match host(directory, id, behaviours) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn host(directory: &Directory, id: ReplicaId, behaviours: &[String]) -> Result<(), NodeError> {
    let on = control::misbehaviours(behaviours).map_err(NodeError::Configuration)?;
    let config = Config::load(&directory.config(id))?;
    start_logging(&config.log)?;
    let settings = NodeSettings::load(&config, &PassphraseSource::Terminal)?;
    let switch = Switch::with(on);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("quorate-io").build().map_err(
        |error| NodeError::Configuration(format!("cannot start threads ({error}); raise the limit on them")),
    )?;
    runtime.block_on(serve(directory, settings, switch))
}

async fn serve(directory: &Directory, settings: NodeSettings, switch: Switch) -> Result<(), NodeError> {
    let unusable = |error: io::Error| NodeError::Configuration(format!("cannot take signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unusable)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(unusable)?;
    // A closed terminal is no reason to end: `down` is.
    let _hangup = signal(SignalKind::hangup()).map_err(unusable)?;

    let id = settings.replica;
    let socket = directory.control(id);
    let server = Server::bind(&socket, switch.clone()).map_err(|error| {
        NodeError::Configuration(format!("cannot listen at {}: {error}; check the directory", socket.display()))
    })?;
    let seed: u64 = rand::random();
    let face = FaultyFace::new(switch.clone(), seed);
    let signer = std::sync::Arc::new(settings.identity.consensus.clone());
    let wrap = move |replica: Replica, setup: &Setup| -> Box<dyn Engine> {
        let hands = Hands {
            id: setup.id,
            incarnation: setup.incarnation,
            committee: std::sync::Arc::clone(&setup.committee),
            signer,
            parameters: setup.parameters.clone(),
        };
        Box::new(FaultyReplica::new(replica, switch, hands, seed))
    };
    let mut node = Node::start_with(settings, wrap, Some(Box::new(face))).await?;
    let control = tokio::spawn(server.run());

    tokio::select! {
        _ = node.ended() => {}
        _ = interrupt.recv() => tracing::info!("stopping on SIGINT"),
        _ = terminate.recv() => tracing::info!("stopping on SIGTERM"),
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(INTERRUPTED);
    });
    control.abort();
    let result = node.stop().await;
    if result.is_ok() {
        tracing::info!("stopped");
    }
    result
}
