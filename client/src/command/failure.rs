//! Exit codes, and the sentence that goes with each.

use std::process::ExitCode;

use owo_colors::OwoColorize as _;

use crate::error::{Aftermath, ClientError, aftermath};

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What happened and what to do; empty if there is nothing to say.
    pub sentence: String,
}

impl Failure {
    /// 1: refused by the service.
    pub fn refused(sentence: String) -> Failure {
        Failure { code: 1, sentence }
    }

    /// 2: usage or configuration.
    pub fn configuration(sentence: String) -> Failure {
        Failure { code: 2, sentence }
    }

    /// 3: no quorum in time.
    pub fn unknown(sentence: String) -> Failure {
        Failure { code: 3, sentence }
    }

    /// 4: verification failed.
    pub fn verification(sentence: String) -> Failure {
        Failure { code: 4, sentence }
    }

    /// 130: interrupted.
    pub fn interrupted() -> Failure {
        Failure { code: 130, sentence: "interrupted".to_owned() }
    }

    /// Writes the sentence to stderr and gives the exit code.
    pub fn tell(&self) -> ExitCode {
        self.warn();
        ExitCode::from(self.code)
    }

    /// Writes the sentence to stderr.
    pub fn warn(&self) {
        if !self.sentence.is_empty() {
            anstream::eprintln!("{} {}", "error:".red().bold(), self.sentence);
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let sentence = error.to_string();
        match error {
            ClientError::Cluster(_)
            | ClientError::Start(_)
            | ClientError::Limit(_)
            | ClientError::Submit(_)
            | ClientError::Unreadable(_)
            | ClientError::Closed => Failure::configuration(sentence),
            // A refusal that consumed no number is no outcome.
            ClientError::Refused { reason, .. } if aftermath(reason) != Aftermath::Nothing => {
                Failure::unknown(sentence)
            }
            ClientError::Refused { .. }
            | ClientError::KeyRefused(_)
            | ClientError::Operation(_)
            | ClientError::Compacted(_)
            | ClientError::WatchEnded(_) => Failure::refused(sentence),
            ClientError::Unknown(_) | ClientError::NoQuorum { .. } | ClientError::ResultsForgotten(_) => {
                Failure::unknown(sentence)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_crypto::Seq;
    use quorate_protocol::reply::Refusal;

    use super::*;

    fn refused(reason: Refusal) -> ClientError {
        ClientError::Refused { reason, replicas: 2, requests: Vec::new() }
    }

    /// And two more that no time changes: the cluster does not know what the bytes ask for.
    #[test]
    fn only_expiry_is_a_final_refusal() {
        for reason in [Refusal::Expired, Refusal::UnknownOperation, Refusal::NotSupported] {
            assert_eq!(Failure::from(refused(reason)).code, 1, "{reason:?}");
            assert!(refused(reason).to_replay().is_none());
        }
        for reason in [
            Refusal::UnknownClient,
            Refusal::NotPermitted,
            Refusal::ValidTooLong,
            Refusal::NumberTooFar,
            Refusal::SessionTableFull,
            Refusal::BatchShareSpent,
        ] {
            let failure = Failure::from(refused(reason));
            assert_eq!(failure.code, 3, "{reason:?}");
            assert!(failure.sentence.ends_with("it may still execute") && !failure.sentence.contains("issue it"));
            assert!(refused(reason).to_replay().is_some(), "{reason:?}");
        }
        for reason in [Refusal::StaleNumber, Refusal::NumberTaken, Refusal::Forgotten] {
            let failure = Failure::from(refused(reason));
            assert_eq!(failure.code, 3, "{reason:?}");
            assert!(failure.sentence.contains("read the keys before you issue it again"), "{}", failure.sentence);
            assert!(refused(reason).to_replay().is_none(), "a replay would be told the same");
        }
    }

    #[test]
    fn exit_codes() {
        let code = |error: ClientError| Failure::from(error).code;
        assert_eq!(code(ClientError::KeyRefused(3)), 1);
        assert_eq!(code(ClientError::Compacted(3)), 1);
        assert_eq!(code(ClientError::Limit(quorate_kv::LimitError::EmptyKey)), 2);
        assert_eq!(code(ClientError::ResultsForgotten(Seq(3))), 3);
    }
}
