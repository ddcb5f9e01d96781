//! Lies told in HotStuff's messages. The names stand in one catalogue with those of PBFT: many attack both protocols, and do
//! here what their namesakes do there.
//!
//! | file | what it is |
//! |---|---|
//! | `chain` | what a liar has seen: blocks, certificates, TIMEOUTs |
//! | `blocks` | proposals: other contents, other ground, two of one view, late |
//! | `votes` | votes and TIMEOUTs as signed statements: spoilt, elsewhere, in others' names, withheld |
//! | `certificates` | forged quorum and timeout certificates |
//! | `timeouts` | TIMEOUTs: early, far ahead, two of one view, with an older certificate |
//! | `withholding` | certificates and blocks kept back |
//!
//! Everything here acts on HotStuff's messages alone and draws no random number without one at hand, so that nothing that a
//! liar does under PBFT depends on it.

mod blocks;
pub(super) mod certificates;
mod chain;
mod timeouts;
mod votes;
mod withholding;

pub(super) use blocks::{Blocks, content_with};
pub(super) use chain::Chain;
pub(super) use timeouts::{own_timeout, sign as timeout_with};
pub(super) use votes::own_vote;

use super::act::Act;
use super::catalogue::Behaviour;
use timeouts::Timeouts;
use withholding::HiddenCertificates;

/// A liar's memory of what it said under HotStuff. What it proposed with other requests is the leader's to remember.
#[derive(Default)]
pub(super) struct HotStuff {
    blocks: Blocks,
    timeouts: Timeouts,
    hidden: HiddenCertificates,
}

impl HotStuff {
    pub(super) fn act(&mut self, behaviour: Behaviour, act: &mut Act<'_>) -> u64 {
        if !act.seen.chain().is_in_use() {
            return 0;
        }
        match behaviour {
            Behaviour::Equivocate => self.blocks.equivocate(act, false),
            Behaviour::EquivocateOne => self.blocks.equivocate(act, true),
            Behaviour::Slow => self.blocks.slow(act),
            Behaviour::StaleQc => self.blocks.replace(act, blocks::on_older_certificate),
            Behaviour::Fork => self.blocks.replace(act, blocks::on_grandparent),
            Behaviour::ForgeQc => {
                self.blocks.replace(act, certificates::on_forged_quorum) + certificates::tell_forged_quorum(act)
            }
            Behaviour::ForgeTc => {
                self.blocks.replace(act, certificates::after_forged_timeouts) + certificates::tell_forged_timeouts(act)
            }
            Behaviour::DoubleVote => votes::double(act),
            Behaviour::StaleVotes => votes::elsewhere(act, votes::stale),
            Behaviour::FutureVotes => votes::elsewhere(act, |act, view| Some(votes::future(act, view))),
            Behaviour::Impersonate => votes::impersonate(act),
            Behaviour::WithholdVotes => votes::withhold(act),
            Behaviour::WithholdQc => self.hidden.act(act),
            Behaviour::WithholdBlocks => withholding::blocks(act),
            Behaviour::TimerGames => self.timeouts.late(act),
            Behaviour::EarlyTimeout => self.timeouts.early(act),
            Behaviour::TimeoutSpam => timeouts::spam(act),
            Behaviour::TwoTimeouts => timeouts::two(act),
            Behaviour::HideQc => self.timeouts.hide(act),
            _ => 0,
        }
    }
}
