//! A connected client for the time of one command: finding the cluster, waiting, warning, saving, closing.

use std::future::Future;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use owo_colors::OwoColorize as _;
use quorate_crypto::ClusterId;
use quorate_keys::PassphraseSource;
use quorate_protocol::client::Accusation;
use tokio::sync::broadcast;

use super::arguments::Connection;
use super::failure::Failure;
use super::report::Report;
use crate::client::Client;
use crate::cluster::{Cluster, ClusterError, DEFAULT_DIRECTORY};
use crate::error::ClientError;
use crate::saved_request::SavedRequest;

/// After this time a person at a terminal is told what is waited for.
const SILENCE: Duration = Duration::from_secs(1);
/// How long closing the links may take: the packets that say so leave at once, their acknowledgement is not needed.
const GOODBYE: Duration = Duration::from_millis(5);
/// How long a command may take to end after Ctrl-C.
const GRACE: Duration = Duration::from_millis(250);
/// Saved requests in the cluster directory.
const SAVED: &str = "requests";

/// A connected client.
pub struct Session {
    /// The client.
    pub client: Client,
    /// How to print.
    pub report: Report,
    /// The cluster's id.
    pub cluster: ClusterId,
    directory: PathBuf,
    accusations: std::sync::Mutex<broadcast::Receiver<Accusation>>,
}

/// The cluster directory by flag, variable or default.
pub fn directory(connection: &Connection) -> PathBuf {
    connection.cluster.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_DIRECTORY))
}

fn key_file(connection: &Connection, directory: &Path, admin: bool) -> PathBuf {
    if let Some(key) = &connection.key_file {
        return key.clone();
    }
    let admin_key = directory.join("admin.key");
    if admin && admin_key.exists() { admin_key } else { directory.join("client.key") }
}

impl Session {
    /// Finds the cluster and starts to connect.
    pub async fn open(connection: &Connection, report: Report, admin: bool) -> Result<Session, Failure> {
        let directory = directory(connection);
        let key = key_file(connection, &directory, admin);
        let passphrase = PassphraseSource::from_environment(connection.passphrase_file.clone());
        let client_error = |error: ClusterError| Failure::from(ClientError::from(error));
        let mut cluster =
            Cluster::load(&directory, &key, &passphrase).and_then(Cluster::with_environment).map_err(client_error)?;
        for endpoint in &connection.endpoint {
            cluster = cluster.with_endpoint(endpoint).map_err(client_error)?;
        }
        cluster.set_patience(connection.timeout);
        let id = cluster.genesis.cluster_id();
        let client = Client::connect(cluster).await?;
        let accusations = std::sync::Mutex::new(client.accusations());
        Ok(Session { client, report, cluster: id, directory, accusations })
    }

    /// The same session with another way to print.
    pub fn with_report(&self, report: Report) -> Session {
        Session {
            client: self.client.clone(),
            report,
            cluster: self.cluster,
            directory: self.directory.clone(),
            accusations: std::sync::Mutex::new(self.client.accusations()),
        }
    }

    /// Waits for `call`, tells a person at a terminal what for if it takes long, and saves what has an unknown outcome.
    pub async fn wait<T>(&self, call: impl Future<Output = Result<T, ClientError>>) -> Result<T, Failure> {
        tokio::pin!(call);
        let outcome = tokio::select! {
            outcome = &mut call => outcome,
            () = tokio::time::sleep(SILENCE), if std::io::stderr().is_terminal() => {
                let needed = self.client.committee().one_honest();
                anstream::eprintln!("{}", format!("waiting for {needed} equal answers{}", self.client.link_report()).dimmed());
                call.await
            }
        };
        self.warn_of_accusations();
        outcome.map_err(|error| self.fail(error))
    }

    /// The failure for an error; the signed bytes of an unknown outcome are saved first.
    pub fn fail(&self, error: ClientError) -> Failure {
        let saved = error.to_replay().map(|requests| self.save(&SavedRequest::new(self.cluster, requests)));
        let mut failure = Failure::from(error);
        let more = match saved {
            Some(Ok(path)) => format!(
                "\nThe signed request is saved in {0}; replay it safely with `quorate --request {0}`.",
                path.display()
            ),
            Some(Err(problem)) => format!("\nThe signed request could not be saved: {problem}."),
            None => String::new(),
        };
        failure.sentence.push_str(&more);
        failure
    }

    /// Into the cluster directory, or where temporary files go if that cannot be written.
    fn save(&self, saved: &SavedRequest) -> Result<PathBuf, String> {
        saved
            .save(&self.directory.join(SAVED))
            .or_else(|_| saved.save(&std::env::temp_dir()))
            .map_err(|error| error.to_string())
    }

    /// Tells of replicas that contradicted f + 1 others. The answer stands all the same.
    pub fn warn_of_accusations(&self) {
        let Ok(mut accusations) = self.accusations.lock() else { return };
        loop {
            match accusations.try_recv() {
                Ok(accusation) => anstream::eprintln!("{} {accusation}", "warning:".yellow().bold()),
                Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(_) => return,
            }
        }
    }

    /// Takes leave of the replicas, so that they free the connection at once.
    pub async fn close(&self) {
        self.warn_of_accusations();
        self.client.shut_down(GOODBYE).await;
    }
}

/// Runs `work` until it ends or Ctrl-C is pressed. The first Ctrl-C gives up what is under way and saves the request
/// whose outcome is unknown then; the second stops at once.
pub async fn interruptible(session: &Session, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::pin!(work);
    tokio::select! {
        outcome = &mut work => return outcome,
        _ = tokio::signal::ctrl_c() => session.client.give_up().await,
    }
    tokio::select! {
        outcome = &mut work => match outcome {
            Err(failure) if !failure.sentence.is_empty() => {
                Err(Failure { code: 130, sentence: format!("interrupted: {}", failure.sentence) })
            }
            _ => Err(Failure::interrupted()),
        },
        () = tokio::time::sleep(GRACE) => Err(Failure::interrupted()),
        _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
    }
}
