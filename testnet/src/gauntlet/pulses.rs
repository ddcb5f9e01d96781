//! A client that attacks and rests in turn, so that the load under the attack is measured beside the load without it, on the
//! same replicas within seconds: a machine's speed changes by more than an attack costs, and not always slowly.
//!
//! ```text
//!   calm  attack  calm  attack  calm  ...  attack  calm        each attack beside the calm before and after it
//! ```

use std::time::{Duration, Instant};

use super::attacker::Attacker;
use super::row::{Pulse, Rate};
use crate::drill::DrillError;

/// How often the attack goes on.
const PULSES: u32 = 5;

/// What was done until some moment.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) at: Instant,
    pub(super) puts: u64,
    /// Processor time of each honest replica that said it.
    pub(super) cpu_seconds: Vec<Option<f64>>,
}

impl Load {
    fn since(&self, before: &Load) -> Rate {
        let seconds = (self.at - before.at).as_secs_f64().max(f64::MIN_POSITIVE);
        let both = self.cpu_seconds.iter().zip(&before.cpu_seconds);
        let spent: Vec<f64> = both.filter_map(|(after, before)| Some((*after)? - (*before)?)).collect();
        let cpu_seconds = spent.iter().sum::<f64>() / spent.len().max(1) as f64;
        Rate {
            ops_per_s: ((self.puts - before.puts) as f64 / seconds).round(),
            honest_cores: (cpu_seconds / seconds * 1000.0).round() / 1000.0,
        }
    }
}

/// Attacks and calms, as they come.
pub(super) struct Pulses {
    length: Duration,
    /// How many have begun, calm first; the last boundary's load is the beginning of the one that is on.
    begun: u32,
    boundaries: Vec<Load>,
}

impl Pulses {
    /// Pulses that attack for `attacked` together.
    pub(super) fn new(attacked: Duration) -> Pulses {
        Pulses { length: attacked / PULSES, begun: 0, boundaries: Vec::new() }
    }

    /// How long they last, with the calms around each.
    pub(super) fn time(attacked: Duration) -> Duration {
        attacked / PULSES * (2 * PULSES + 1)
    }

    /// The share of all the time that an attacker may take of a core, so that it takes `percent` while it attacks.
    pub(super) fn share_of(percent: u8) -> u8 {
        let share = (u32::from(percent) * PULSES).div_ceil(2 * PULSES + 1);
        u8::try_from(share).unwrap_or(u8::MAX)
    }

    /// Begins the next pulse if it is time.
    pub(super) async fn tend<F: Future<Output = Load>>(
        &mut self,
        passed: Duration,
        attacker: &mut Attacker,
        load: impl FnOnce() -> F,
    ) -> Result<(), DrillError> {
        if self.begun > 2 * PULSES || passed < self.length * self.begun {
            return Ok(());
        }
        attacker.rest(self.begun.is_multiple_of(2))?;
        self.boundaries.push(load().await);
        self.begun += 1;
        Ok(())
    }

    /// What was measured, the last calm ending with `load`.
    pub(super) fn end(mut self, load: Load) -> Vec<Pulse> {
        self.boundaries.push(load);
        let rates: Vec<Rate> = self.boundaries.windows(2).map(|pair| pair[1].since(&pair[0])).collect();
        let around = |three: &[Rate]| Pulse { attack: three[1], calm: three[0].mean(three[2]) };
        rates.windows(3).step_by(2).map(around).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attack_is_beside_the_calm_before_and_after_it() {
        let begin = Instant::now();
        let mut pulses = Pulses::new(Duration::from_secs(15));
        assert_eq!(
            (pulses.length, Pulses::time(Duration::from_secs(15))),
            (Duration::from_secs(3), Duration::from_secs(33))
        );
        // One of two replicas does not answer at the first boundary.
        let at = |second: u64, puts, cpu_seconds: f64| {
            let other = (second > 0).then_some(cpu_seconds);
            Load { at: begin + Duration::from_secs(second), puts, cpu_seconds: vec![Some(cpu_seconds), other] }
        };
        pulses.boundaries = vec![at(0, 0, 0.0), at(1, 100, 0.1), at(2, 190, 0.3), at(3, 310, 0.5)];
        pulses.boundaries.push(at(4, 400, 0.9));
        let rate = |ops_per_s, honest_cores| Rate { ops_per_s, honest_cores };
        let measured = pulses.end(at(5, 480, 1.0));
        assert_eq!(
            measured,
            [
                Pulse { attack: rate(90.0, 0.2), calm: rate(110.0, 0.15) },
                Pulse { attack: rate(90.0, 0.4), calm: rate(100.0, 0.15) },
            ]
        );
    }

    #[test]
    fn an_attacker_has_its_share_while_it_attacks() {
        assert_eq!(Pulses::share_of(10), 5);
        assert_eq!(Pulses::share_of(100), 46);
        assert_eq!(Pulses::share_of(1), 1);
    }
}
