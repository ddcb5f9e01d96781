//! The bars of the design (docs/benchmarks.md names them), applied to a row beside the fault-free ones.

use crate::drill::report::Kind;
use crate::drill::statistics::median;
use crate::faults::Behaviour;

use super::row::{Pulse, Row};

/// Resident memory beyond the fault-free one, MiB.
const MEMORY_SLACK_MIB: f64 = 64.0;
/// Descriptors and threads that come and go with the rhythm of snapshots and requests for status.
const DESCRIPTORS_SLACK: u64 = 16;
const THREADS_SLACK: u64 = 4;
/// The share of fault-free throughput that correct clients keep.
const THROUGHPUT: f64 = 0.9;
/// The least share of fault-free throughput between attacks: they are compared with the calm around them, and what they leave
/// behind would hide there. Low, since the machine's speed changes by a third within an hour.
const CALM: f64 = 0.6;
/// The same under the worst slow leader.
const THROUGHPUT_UNDER_SLOW: f64 = 0.7;

/// The fault-free rows of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FaultFree {
    /// How many there are.
    pub rows: usize,
    /// The median of their throughput, or the mean of two.
    pub ops_per_s: f64,
    /// The least and the greatest.
    pub range: (f64, f64),
    /// The median of the most resident memory, MiB.
    pub resident_mib: f64,
    /// The median of an honest replica's processor time for a write, microseconds.
    pub honest_us_per_op: Option<f64>,
}

/// What a row misses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Which bar, and by what.
    pub sentence: String,
    /// Which column it belongs to.
    pub column: Column,
    /// Whether a busy machine may be to blame.
    pub kind: Kind,
}

/// A column with a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// No wrong or lost answer, no wrong evidence.
    Safe,
    /// Nothing crashes, nothing grows.
    Clean,
    /// Correct clients keep their throughput.
    Throughput,
    /// No client waits long.
    Gap,
}

impl FaultFree {
    /// None if there is no measurement without a failure.
    pub fn of(rows: &[Row]) -> Option<FaultFree> {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.is_fault_free() && row.failure.is_none()).collect();
        let throughputs: Vec<f64> = rows.iter().map(|row| row.ops_per_s).collect();
        let memory: Vec<f64> = rows.iter().map(|row| row.resident_mib).collect();
        Some(FaultFree {
            rows: rows.len(),
            ops_per_s: median(&throughputs)?,
            range: throughputs
                .iter()
                .fold((f64::MAX, 0.0), |(least, most), one| (f64::min(least, *one), f64::max(most, *one))),
            resident_mib: median(&memory)?,
            honest_us_per_op: median(&rows.iter().filter_map(|row| row.honest_us_per_op()).collect::<Vec<_>>()),
        })
    }

    /// What row `at` is put beside: the mean of the fault-free rows before it and after it, since the machine's speed drifts.
    /// Memory, which does not, stays that of all.
    pub fn around(&self, rows: &[Row], at: usize) -> FaultFree {
        let counts = |row: &&Row| row.is_fault_free() && row.failure.is_none();
        let before = rows.iter().take(at).rev().find(counts);
        let after = rows.iter().skip(at + 1).find(counts);
        let mean = |of: &dyn Fn(&Row) -> Option<f64>| {
            let both: Vec<f64> = [before, after].into_iter().flatten().filter_map(of).collect();
            median(&both)
        };
        FaultFree {
            ops_per_s: mean(&|row| Some(row.ops_per_s)).unwrap_or(self.ops_per_s),
            honest_us_per_op: mean(&Row::honest_us_per_op).or(self.honest_us_per_op),
            ..*self
        }
    }

    /// What a write costs an honest replica in `row`, relative to this, or to the calm around each attack: the median.
    pub fn cost(&self, row: &Row) -> Option<f64> {
        if let Some(cost) = median_of(row, Pulse::cost) {
            return Some(cost);
        }
        row.honest_us_per_op().zip(self.honest_us_per_op).map(|(row, fault_free)| row / fault_free)
    }

    /// The throughput of `row` relative to this, or to the calm around each attack: the median.
    pub fn ratio(&self, row: &Row) -> f64 {
        median_of(row, Pulse::ratio).unwrap_or(row.ops_per_s / self.ops_per_s)
    }
}

/// The median over the attacks of a row that could be measured.
fn median_of(row: &Row, of: fn(&Pulse) -> f64) -> Option<f64> {
    median(&row.pulses.iter().map(of).filter(|number| number.is_finite()).collect::<Vec<_>>())
}

/// The least share of fault-free throughput under `row`'s behaviour.
pub fn throughput_bar(row: &Row) -> f64 {
    if row.name == Behaviour::Slow.name() { THROUGHPUT_UNDER_SLOW } else { THROUGHPUT }
}

/// A row, what it is put beside, and what it misses.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What was measured.
    pub row: Row,
    /// Its throughput relative to the fault-free one; none without that.
    pub ratio: Option<f64>,
    /// The same of what a write costs an honest replica.
    pub cost: Option<f64>,
    /// The bars it misses.
    pub misses: Vec<Miss>,
}

/// Judges all rows. Throughput is the median of all rows of one behaviour, everything else counts in each.
pub fn judge(rows: &[Row]) -> Vec<Judged> {
    let Some(all) = FaultFree::of(rows) else {
        let alone = |row: &Row| Judged { row: row.clone(), ratio: None, cost: None, misses: misses(row, None) };
        return rows.iter().map(alone).collect();
    };
    let judged = rows.iter().enumerate().map(|(at, row)| {
        // It is not beside itself: those of one kind are beside their median.
        let beside = if row.is_fault_free() { all } else { all.around(rows, at) };
        let ratio = of_all_its_rows(&row.name, rows, &all).unwrap_or_else(|| beside.ratio(row));
        Judged {
            row: row.clone(),
            ratio: Some(beside.ratio(row)),
            cost: beside.cost(row),
            misses: misses(row, Some((&beside, ratio))),
        }
    });
    judged.collect()
}

/// The median ratio of all rows of a behaviour that ran to their end.
fn of_all_its_rows(name: &str, rows: &[Row], all: &FaultFree) -> Option<f64> {
    let of_name = rows.iter().enumerate().filter(|(_, row)| row.name == name && row.failure.is_none());
    median(&of_name.map(|(at, row)| all.around(rows, at).ratio(row)).collect::<Vec<_>>())
}

/// Whether a behaviour missed its bar of throughput when it was first taken, and was taken again less than `again` times: what
/// the others give decides nothing before all are there.
pub fn misses_throughput(name: &str, rows: &[Row], again: usize) -> bool {
    let mut of_name = rows.iter().enumerate().filter(|(_, row)| row.name == name && row.failure.is_none());
    let (Some((at, row)), Some(all)) = (of_name.next(), FaultFree::of(rows)) else { return false };
    let ratio = all.around(rows, at).ratio(row);
    rows.iter().filter(|row| row.name == name).count() <= again && !is_met(ratio, row)
}

/// A ratio that is no number, of nothing to nothing, meets no bar.
fn is_met(ratio: f64, row: &Row) -> bool {
    ratio >= throughput_bar(row)
}

/// Everything that `row` misses; without what is fault-free, and the ratio to it, nothing is compared with it.
fn misses(row: &Row, beside: Option<(&FaultFree, f64)>) -> Vec<Miss> {
    let mut misses = Vec::new();
    let mut miss = |missed: bool, column, kind, sentence: String| {
        if missed {
            misses.push(Miss { sentence, column, kind });
        }
    };
    let (safe, clean) = (Column::Safe, Column::Clean);
    if let Some(failure) = &row.failure {
        miss(true, safe, Kind::Count, format!("not judged to the end: {failure}"));
    } else {
        for (count, what) in [
            (row.lost_writes, "acknowledged writes lost"),
            (row.wrong_writes, "acknowledged writes with another value or revision"),
            (row.wrong_reads, "wrong answers to reads"),
            (row.wrong_events, "wrong events"),
            (row.missing_events, "events that never came"),
        ] {
            miss(count > 0, safe, Kind::Count, format!("{count} {what}"));
        }
        miss(!row.agreed, safe, Kind::Count, format!("checkpoints of honest replicas {}", row.checkpoint));
        let accused = format!("evidence accuses {:?} instead of {}", row.accused, row.to_accuse);
        miss(!row.accused_justly, safe, Kind::Count, accused);
    }
    let idle = row.acted == 0 && !row.is_fault_free() && row.failure.is_none();
    miss(idle, safe, Kind::Measure, "it never acted, so nothing was tried".to_owned());
    miss(row.panics > 0, clean, Kind::Count, format!("{} panics in the logs", row.panics));
    if row.failure.is_none() {
        let grown = |[before, after]: [u64; 2], slack| after > before + slack;
        let shown = |what: &str, [before, after]: [u64; 2]| format!("{what} went from {before} to {after}");
        let descriptors = grown(row.descriptors, DESCRIPTORS_SLACK);
        miss(descriptors, clean, Kind::Measure, shown("descriptors", row.descriptors));
        miss(grown(row.threads, THREADS_SLACK), clean, Kind::Measure, shown("threads", row.threads));
        let gap = row.longest_gap_ms.unwrap_or(f64::INFINITY);
        let waited = format!("a client waited {gap:.0} ms, at most {:.0}", row.gap_bar_ms);
        miss(gap > row.gap_bar_ms, Column::Gap, Kind::Measure, waited);
    }
    if let Some((fault_free, ratio)) = beside.filter(|_| row.failure.is_none()) {
        let (limit, bar) = (fault_free.resident_mib + MEMORY_SLACK_MIB, throughput_bar(row));
        let memory = format!("{:.0} MiB resident, at most {limit:.0}", row.resident_mib);
        miss(row.resident_mib > limit, clean, Kind::Measure, memory);
        let calm = row.pulses.iter().map(|pulse| pulse.calm.ops_per_s / fault_free.ops_per_s).reduce(f64::min);
        let lasting = format!("{:.2} of fault-free throughput between attacks, at least {CALM}", calm.unwrap_or(1.0));
        miss(calm.is_some_and(|calm| calm < CALM), Column::Throughput, Kind::Measure, lasting);
        let slow = !row.is_fault_free() && !is_met(ratio, row);
        miss(slow, Column::Throughput, Kind::Measure, format!("{ratio:.2} of fault-free throughput, at least {bar}"));
    }
    misses
}

#[cfg(test)]
mod tests {
    use super::super::row::Rate;
    use super::*;

    fn row(name: &str, ops_per_s: f64) -> Row {
        Row {
            name: name.to_owned(),
            ops_per_s,
            acted: u64::from(name != "fault-free"),
            longest_gap_ms: Some(400.0),
            gap_bar_ms: 1000.0,
            agreed: true,
            accused_justly: true,
            resident_mib: 100.0,
            descriptors: [30, 30],
            threads: [9, 9],
            ..Row::default()
        }
    }

    fn missed(row: &Row, fault_free: &FaultFree) -> Vec<(Column, Kind)> {
        let missed = misses(row, Some((fault_free, fault_free.ratio(row))));
        missed.into_iter().map(|miss| (miss.column, miss.kind)).collect()
    }

    /// The machine is twice as slow in the end.
    #[test]
    fn a_row_is_beside_the_fault_free_ones_before_and_after_it() {
        let of = |rows: &[(&str, f64)]| rows.iter().map(|(name, ops)| row(name, *ops)).collect::<Vec<Row>>();
        let mut rows = of(&[("fault-free", 1_000.0), ("silent", 950.0), ("fault-free", 1_000.0), ("slow", 700.0)]);
        rows.extend(of(&[("fault-free", 500.0), ("mutate", 440.0), ("fault-free", 500.0)]));
        let ratios: Vec<_> = judge(&rows).iter().map(|judged| (judged.ratio.expect("one") * 100.0).round()).collect();
        assert_eq!(ratios, [133.0, 95.0, 133.0, 93.0, 67.0, 88.0, 67.0]);
        let late = |rows: &[Row]| judge(rows).iter().map(|judged| judged.misses.len()).collect::<Vec<_>>();
        assert_eq!(late(&rows), [0, 0, 0, 0, 0, 1, 0]);
        assert!(misses_throughput("mutate", &rows, 2) && !misses_throughput("silent", &rows, 2));

        // Taken again, the median counts in every row, and one lucky row ends nothing.
        rows.extend(of(&[("mutate", 500.0), ("fault-free", 500.0)]));
        assert_eq!(late(&rows), [0; 9], "0.94 of two");
        assert!(misses_throughput("mutate", &rows, 2) && !misses_throughput("mutate", &rows, 1));
        rows.extend(of(&[("mutate", 400.0), ("fault-free", 500.0)]));
        assert_eq!(late(&rows).iter().sum::<usize>(), 3, "0.88 of three");
        rows.extend(of(&[("mutate", 490.0), ("fault-free", 500.0), ("mutate", 495.0), ("fault-free", 500.0)]));
        assert_eq!(late(&rows).iter().sum::<usize>(), 0);
        assert!(!misses_throughput("mutate", &rows, 4) && !misses_throughput("never-taken", &rows, 9));
        assert_eq!(judge(&of(&[("silent", 5.0)]))[0].ratio, None);
    }

    #[test]
    fn throughput_is_judged_beside_the_median_of_what_is_fault_free() {
        assert_eq!(FaultFree::of(&[row("slow", 900.0)]), None);
        let fault_free: Vec<Row> = [900.0, 1_000.0, 1_400.0].map(|ops| row("fault-free", ops)).into();
        let fault_free = FaultFree::of(&fault_free).expect("three");
        assert_eq!((fault_free.ops_per_s, fault_free.range), (1_000.0, (900.0, 1_400.0)));
        assert!(missed(&row("silent", 900.0), &fault_free).is_empty());
        assert_eq!(missed(&row("silent", 899.0), &fault_free), [(Column::Throughput, Kind::Measure)]);
        assert!(missed(&row("slow", 700.0), &fault_free).is_empty(), "the worst slow leader has a bar of its own");
        assert!(missed(&row("fault-free", 500.0), &fault_free).is_empty(), "it is not beside itself");
    }

    #[test]
    fn a_client_that_attacks_is_judged_beside_the_calm_around_it() {
        let fault_free = FaultFree::of(&[row("fault-free", 1_000.0)]).expect("one");
        let rate = |ops_per_s| Rate { ops_per_s, honest_cores: 0.25 };
        let pulse = |attack, calm| Pulse { attack: rate(attack), calm: rate(calm) };
        let pulses = vec![pulse(570.0, 600.0), pulse(300.0, 600.0), pulse(550.0, 610.0)];
        let slow_machine = Row { pulses, ..row("flood", 570.0) };
        assert!(missed(&slow_machine, &fault_free).is_empty());
        let never_again = vec![pulse(570.0, 600.0), pulse(300.0, 300.0), pulse(300.0, 300.0)];
        let lasting = Row { pulses: never_again, ..row("flood", 570.0) };
        assert_eq!(missed(&lasting, &fault_free), [(Column::Throughput, Kind::Measure)]);
        let dead = Row { pulses: vec![pulse(570.0, 300.0), pulse(0.0, 0.0)], ..row("flood", 570.0) };
        assert_eq!(missed(&dead, &fault_free), [(Column::Throughput, Kind::Measure)]);
        assert!((fault_free.cost(&slow_machine).expect("measured") - 610.0 / 550.0).abs() < 1e-9);
        let fast_machine = Row { pulses: vec![pulse(1_000.0, 1_200.0)], ..row("flood", 1_000.0) };
        assert_eq!(missed(&fast_machine, &fault_free), [(Column::Throughput, Kind::Measure)]);
        let dead = Row { pulses: vec![pulse(0.0, 0.0)], ..row("flood", 0.0) };
        assert_eq!(missed(&dead, &fault_free), [(Column::Throughput, Kind::Measure); 2], "the calm and the whole");
    }

    #[test]
    fn safety_and_panics_count_on_any_machine() {
        let fault_free = FaultFree::of(&[row("fault-free", 1_000.0)]).expect("one");
        let bad = |change: fn(&mut Row)| {
            let mut row = row("silent", 1_000.0);
            change(&mut row);
            missed(&row, &fault_free)
        };
        assert_eq!(bad(|row| row.lost_writes = 1), [(Column::Safe, Kind::Count)]);
        assert_eq!(bad(|row| row.wrong_reads = 1), [(Column::Safe, Kind::Count)]);
        assert_eq!(bad(|row| row.missing_events = 1), [(Column::Safe, Kind::Count)]);
        assert_eq!(bad(|row| row.agreed = false), [(Column::Safe, Kind::Count)]);
        assert_eq!(bad(|row| row.accused_justly = false), [(Column::Safe, Kind::Count)]);
        assert_eq!(bad(|row| row.failure = Some("replica 2 died".to_owned())), [(Column::Safe, Kind::Count)]);
        assert_eq!(bad(|row| row.acted = 0), [(Column::Safe, Kind::Measure)]);
        assert_eq!(bad(|row| row.panics = 1), [(Column::Clean, Kind::Count)]);
        assert_eq!(bad(|row| row.resident_mib = 165.0), [(Column::Clean, Kind::Measure)]);
        assert_eq!(bad(|row| row.descriptors = [30, 47]), [(Column::Clean, Kind::Measure)]);
        assert_eq!(bad(|row| row.longest_gap_ms = Some(1_001.0)), [(Column::Gap, Kind::Measure)]);
        assert_eq!(bad(|row| row.longest_gap_ms = None), [(Column::Gap, Kind::Measure)]);
    }
}
