//! Finding signed contradictions. Every find is checked as an outsider would check it before it is reported.

use quorate_crypto::{Signed, StatementBody};

use crate::evidence::Evidence;
use crate::hotstuff::Replica;
use crate::hotstuff::certificate::QuorumCertificate;
use crate::hotstuff::message::BlockProposal;
use crate::request::Request;

impl Replica {
    /// A proposal against those that are held of its view.
    pub(super) fn check_proposal(&mut self, signed: &Signed) {
        let StatementBody::Proposal { view, .. } = *signed.body() else { return };
        let in_tree = self.tree.of_view(view).filter_map(|block| self.signed.get(&block.digest())).copied();
        let waiting = self.waiting.get(&signed.signer()).map(|(_, proposal)| proposal.signed);
        let held: Vec<Signed> = in_tree.chain(waiting).collect();
        for held in held {
            self.foundation.accuse_pair(Some(held), signed);
        }
    }

    /// A TIMEOUT, alone or of a certificate, against what its author voted for: by a vote that is held, by the highest
    /// certificate, or by the one that this rests on.
    pub(super) fn check_timeout(&mut self, signed: &Signed) {
        let author = signed.signer();
        let high_qc = &self.promise.high_qc;
        let below = self.tree.get(&high_qc.block()).and_then(|block| block.justify.vote_by(author));
        let held = [self.collector.newest_of(author).copied(), high_qc.vote_by(author), below];
        for held in held {
            self.foundation.accuse_pair(held, signed);
        }
    }

    /// A vote against the last TIMEOUT of its author, alone or in the highest certificate of them.
    pub(super) fn check_vote(&mut self, signed: &Signed) {
        let author = signed.signer();
        let certified = self.promise.high_tc.as_ref();
        let certified = certified.and_then(|held| held.statements().find(|timeout| timeout.signer() == author));
        let alone = self.pacemaker.timeout_of(author).map(|timeout| timeout.signed);
        for held in [alone, certified] {
            self.foundation.accuse_pair(held, signed);
        }
    }

    /// The votes of a new certificate against the last TIMEOUTs of their authors.
    pub(super) fn check_certificate(&mut self, certificate: &QuorumCertificate) {
        for signed in certificate.statements() {
            self.check_vote(&signed);
        }
    }

    /// A body whose client signature does not hold: whoever proposed it is guilty, whoever sent it is not.
    pub(super) fn handle_invalid_request(&mut self, request: Request) {
        let digest = request.digest();
        if !self.foundation.bodies.is_wanted(&digest) {
            return;
        }
        let mut naming = self.tree.iter().rev().filter(|block| block.proposal.requests().contains(&digest));
        let guilty = naming.find_map(|block| Some((self.signed.get(&block.digest())?, block)));
        let guilty = guilty.map(|(signed, block)| BlockProposal { signed: *signed, block: (**block).clone() });
        if let Some(proposal) = guilty {
            self.foundation.accuse(Evidence::InvalidBlockRequest(Box::new(proposal), Box::new(request)));
        }
    }
}
