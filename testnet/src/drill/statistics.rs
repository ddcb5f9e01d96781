//! Gaps, quantiles, medians: small pure functions.

use std::time::{Duration, Instant};

/// The longest time without an answer that overlaps the time from `from` to `until`. `answers` are in order; the time
/// before the first counts for nothing, that after the last up to `until` does. None without an answer.
pub fn longest_gap(answers: &[Instant], from: Instant, until: Instant) -> Option<Duration> {
    let last = *answers.last()?;
    let ends = answers.iter().skip(1).copied().chain([until.max(last)]);
    let gaps = answers.iter().zip(ends).filter(|(begins, ends)| **begins < until && *ends > from);
    gaps.map(|(begins, ends)| ends - *begins).max()
}

/// The value that this share of `values` does not exceed (nearest rank). None of none.
pub fn quantile<T: Ord + Copy>(values: &[T], share: f64) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// The middle one, or the mean of the two in the middle. None of none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(sorted[half - 1], upper) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_counted_if_it_overlaps_the_time_looked_at() {
        let began = Instant::now();
        let at = |millis: u64| began + Duration::from_millis(millis);
        let gap = |answers: &[u64], from, until| {
            let answers: Vec<Instant> = answers.iter().map(|millis| at(*millis)).collect();
            longest_gap(&answers, at(from), at(until)).map(|gap| gap.as_millis())
        };
        // The kill at 100 falls between the answers at 90 and 400.
        assert_eq!(gap(&[0, 90, 400, 410, 420], 100, 415), Some(310));
        // A longer one long before, and one that begins after, belong to something else.
        assert_eq!(gap(&[0, 50, 90, 100, 110, 900], 95, 105), Some(10));
        assert_eq!(gap(&[0, 500, 510, 520], 505, 520), Some(10));
        // What is still unanswered counts as far as it was looked at.
        assert_eq!(gap(&[0, 10], 20, 500), Some(490));
        assert_eq!(gap(&[], 0, 500), None);
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<u32> = (1..=20).rev().collect();
        let of = |share| quantile(&values, share);
        assert_eq!([of(0.5), of(0.9), of(0.99), of(1.0), of(0.0)], [10, 18, 20, 20, 1].map(Some));
        assert_eq!(quantile::<u32>(&[], 0.5), None);
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0]), median(&[])), (Some(2.0), Some(2.5), None));
    }
}
