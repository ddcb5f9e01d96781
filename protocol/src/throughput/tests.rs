use super::*;

/// Executes `rate` requests a second for `span`, a batch every 10 ms, others waiting all the time.
fn busy(throughput: &mut Throughput, from: Micros, span: Micros, rate: usize) -> Micros {
    let mut now = from;
    while now < from + span {
        throughput.executed(now, rate / 100, true);
        now += 10_000;
    }
    now
}

#[test]
fn the_estimate_finds_what_is_executed_under_load() {
    let mut throughput = Throughput::default();
    let now = busy(&mut throughput, 0, 1_000_000, 5_000);
    assert!((4_500..=5_500).contains(&throughput.within(1_000_000)), "{throughput:?}");
    busy(&mut throughput, now, 3_000_000, 500);
    assert!((450..=600).contains(&throughput.within(1_000_000)), "{throughput:?}");
}

#[test]
fn an_idle_cluster_is_not_slow() {
    let mut throughput = Throughput::default();
    let mut now = busy(&mut throughput, 0, 1_000_000, 5_000);
    for _ in 0..1_000 {
        throughput.executed(now, 1, false);
        now += 100_000;
    }
    assert!(throughput.within(1_000_000) > 4_500, "{throughput:?}");
}

#[test]
fn nothing_overflows_and_nothing_divides_by_zero() {
    let mut throughput = Throughput::default();
    throughput.executed(0, 1, true);
    throughput.executed(u64::MAX, usize::MAX, true);
    let _ = (throughput.within(u64::MAX), throughput.time_for(usize::MAX));
    let mut stopped = Throughput::default();
    for second in 0..2_000 {
        stopped.executed(second * 1_000_000, 0, true);
    }
    assert!((1_000_000..=10_000_000).contains(&stopped.time_for(10)), "{stopped:?}");
}
