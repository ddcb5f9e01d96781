//! What a replica has promised: the one small state that must be durable before anything it says leaves.
//!
//! It says which views are used up for votes, TIMEOUTs and proposals, the highest certificates that were acted on, and the
//! exact statements last signed. After a restart they are sent again as they are, and no view is used twice (rule H6;
//! Malachite #864).

use bincode::{Decode, Encode};
use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Epoch, Signed, View};

use crate::hotstuff::certificate::{QuorumCertificate, TimeoutCertificate, Vote};
use crate::hotstuff::message::Timeout;

/// Everything a replica has promised.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Promise {
    /// The epoch of all of it.
    pub epoch: Epoch,
    /// No vote is signed in this view or an earlier one any more.
    pub last_voted: View,
    /// No TIMEOUT, vote or proposal is signed in this view or an earlier one any more.
    pub last_timed_out: View,
    /// No proposal is signed in this view or an earlier one any more.
    pub last_proposed: View,
    /// The highest QC acted on. A TIMEOUT names its view, so it must not be lower than what a vote rested on.
    pub high_qc: QuorumCertificate,
    /// The highest TC acted on.
    pub high_tc: Option<TimeoutCertificate>,
    /// The last vote, in the bytes that were sent.
    pub vote: Option<Signed>,
    /// The last TIMEOUT, with the QC it was sent with.
    pub timeout: Option<Timeout>,
    /// The last proposal's statement; its block has a record of its own.
    pub proposal: Option<Signed>,
}

impl Promise {
    /// Of a replica that never signed anything.
    pub const fn new(epoch: Epoch) -> Promise {
        Promise {
            epoch,
            last_voted: View(0),
            last_timed_out: View(0),
            last_proposed: View(0),
            high_qc: QuorumCertificate::Genesis,
            high_tc: None,
            vote: None,
            timeout: None,
            proposal: None,
        }
    }

    /// Of a life that begins with `certificate`, which committed its Rejoin: every view up to the certificate's is used up by
    /// lives before, and the certificate is not lower than any that they acted on (protocol.md, Rejoin).
    pub fn of_new_life(epoch: Epoch, certificate: QuorumCertificate) -> Promise {
        let view = certificate.view();
        let none = Promise::new(epoch);
        Promise { last_voted: view, last_timed_out: view, last_proposed: view, high_qc: certificate, ..none }
    }

    /// What a log says was promised last: all of it holds after a restart (rule H6).
    #[must_use]
    pub fn read_back(self) -> Promise {
        if alive(Mutant::ForgetsPromises) {
            return Promise { high_qc: self.high_qc, high_tc: self.high_tc, ..Promise::new(self.epoch) };
        }
        self
    }

    /// Notes a certificate; whether it is higher than all before.
    pub fn raise(&mut self, certificate: &QuorumCertificate) -> bool {
        let higher = certificate.view() > self.high_qc.view();
        if higher {
            self.high_qc = certificate.clone();
        }
        higher
    }

    /// Notes a timeout certificate, and the QC it carries; whether it is higher than all before.
    pub fn raise_timeout(&mut self, certificate: &TimeoutCertificate) -> bool {
        self.raise(&certificate.high_qc);
        let higher = self.high_tc.as_ref().is_none_or(|held| certificate.view > held.view);
        if higher {
            self.high_tc = Some(certificate.clone());
        }
        higher
    }

    /// View of the highest TC; 0 without one.
    pub fn high_tc_view(&self) -> View {
        self.high_tc.as_ref().map_or(View(0), |certificate| certificate.view)
    }

    /// The vote was signed.
    ///
    /// # Panics
    /// If the view is used up: whoever signs asks [`crate::hotstuff::safety::may_vote`] first.
    pub fn voted(&mut self, signed: Signed) {
        let Some(vote) = Vote::of(signed.body()) else { return };
        assert!(vote.view > self.last_voted, "a view has one vote");
        self.last_voted = vote.view;
        self.vote = Some(signed);
    }

    /// The TIMEOUT was signed.
    ///
    /// # Panics
    /// If the view is used up: whoever signs asks [`crate::hotstuff::safety::may_time_out`] first.
    pub fn timed_out(&mut self, timeout: Timeout) {
        assert!(timeout.view() > self.last_timed_out, "a view has one TIMEOUT");
        self.last_timed_out = timeout.view();
        self.timeout = Some(timeout);
    }

    /// The proposal of `view` was signed.
    ///
    /// # Panics
    /// If the view is used up: whoever signs asks [`crate::hotstuff::safety::may_propose`] first.
    pub fn proposed(&mut self, view: View, signed: Signed) {
        assert!(view > self.last_proposed, "a view has one proposal");
        self.last_proposed = view;
        self.proposal = Some(signed);
    }
}

#[cfg(test)]
mod tests;
