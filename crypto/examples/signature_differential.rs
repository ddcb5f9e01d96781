//! Compares single checks and batches, without and with remembered keys, ed25519-zebra and ZIP-215 as it is written down,
//! over random and adversarial signatures (rule X1).
//! Arguments: how many cases (default 100,000) and the first seed (default 1). Fails at the first disagreement.

#[path = "../tests/adversarial/mod.rs"]
mod adversarial;

use std::time::Instant;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let count = arguments.next().unwrap_or(100_000) as usize;
    let seed = arguments.next().unwrap_or(1);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let start = Instant::now();
    let tallies: Vec<adversarial::Tally> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads as u64)
            .map(|thread| scope.spawn(move || adversarial::compare(seed + thread, count.div_ceil(threads))))
            .collect();
        running.into_iter().map(|thread| thread.join().expect("no disagreement")).collect()
    });
    let (mut cases, mut accepted, mut batches) = (0, 0, 0);
    for tally in tallies {
        cases += tally.cases;
        accepted += tally.accepted;
        batches += tally.batches;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{cases} cases, {accepted} accepted, {batches} batches, 0 disagreements, {seconds:.0} s");
}
