//! Making a failing run smaller: planned faults are left out while the same oracle still fails (Zeller and Hildebrandt,
//! delta debugging, 2002).

use std::collections::BTreeSet;

use super::plan::Options;

/// Runs that shrinking takes at most.
const RUNS_MAX: usize = 400;

/// What is left of a failing plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// The planned faults without which the same oracle does not fail, with their numbers.
    pub kept: Vec<(usize, String)>,
    /// The numbers of all others, for [`Options::without`].
    pub without: BTreeSet<usize>,
    /// Runs that it took.
    pub runs: usize,
}

/// Shrinks the run of `seed`, which fails with `oracle` under `options`.
pub fn shrink(seed: u64, options: &Options, oracle: &str) -> Shrunk {
    let planned = super::run(seed, &Options { without: BTreeSet::new(), ..options.clone() }).planned;
    let mut kept: Vec<usize> = (0..planned.len()).filter(|number| !options.without.contains(number)).collect();
    let mut runs = 1;
    let fails = |kept: &[usize]| {
        let without = (0..planned.len()).filter(|number| !kept.contains(number)).collect();
        let report = super::run(seed, &Options { without, ..options.clone() });
        report.violation.is_some_and(|violation| violation.oracle == oracle)
    };
    let mut size = kept.len().max(1);
    while runs < RUNS_MAX && !kept.is_empty() {
        let mut smaller = false;
        let mut begin = 0;
        while begin < kept.len() && runs < RUNS_MAX {
            let end = (begin + size).min(kept.len());
            let rest: Vec<usize> = kept[..begin].iter().chain(&kept[end..]).copied().collect();
            runs += 1;
            if fails(&rest) {
                kept = rest;
                smaller = true;
            } else {
                begin = end;
            }
        }
        if size > 1 {
            size = size.div_ceil(2);
        } else if !smaller {
            break;
        }
    }
    Shrunk {
        without: (0..planned.len()).filter(|number| !kept.contains(number)).collect(),
        kept: kept.into_iter().map(|number| (number, planned[number].clone())).collect(),
        runs,
    }
}
