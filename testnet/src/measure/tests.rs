use super::*;
use crate::sim::meter::Kind;

fn rows(sizes: &[usize], situation: Situation) -> Vec<Row> {
    let pairs = Protocol::ALL.into_iter().flat_map(|protocol| sizes.iter().map(move |size| (protocol, *size)));
    pairs.map(|(protocol, size)| measure(1, protocol, size, situation).expect("measured")).collect()
}

fn of(rows: &[Row], protocol: Protocol, size: usize, figure: Figure) -> f64 {
    let row = rows.iter().find(|row| row.protocol == protocol && row.replicas == size).expect("a row");
    figure.of(row).expect("a figure")
}

/// Castro and Liskov 1999: every replica votes to every other, twice. Jolteon: one proposal to all, one vote from each.
#[test]
fn messages_grow_with_the_square_of_n_under_pbft_and_with_n_under_hotstuff() {
    let rows = rows(&[4, 16], Situation::FaultFree);
    let growth = |protocol, figure| of(&rows, protocol, 16, figure) / of(&rows, protocol, 4, figure);
    let (pbft, hotstuff) = (growth(Protocol::Pbft, Figure::Messages), growth(Protocol::HotStuff, Figure::Messages));
    assert!(pbft > 12.0 && pbft < 26.0, "{pbft}");
    assert!(hotstuff > 3.0 && hotstuff < 8.0, "{hotstuff}");
    // PRE-PREPARE, PREPARE, COMMIT; two blocks with their votes, and the certificate that comes with the third.
    let delays = |protocol| of(&rows, protocol, 4, Figure::Delays).floor();
    assert_eq!((delays(Protocol::Pbft), delays(Protocol::HotStuff)), (3.0, 5.0));
    assert!(crossings(&rows).iter().any(|sentence| sentence.contains("messages a batch, fault-free: hotstuff")));
}

/// Messages that order a batch, counted for one second alone, since large clusters take long. CHECKPOINTs are left out: each
/// replica tells each, but once in 64 batches, and whether that falls into the second says nothing.
fn ordering_messages(protocol: Protocol, replicas: usize) -> f64 {
    let second = Window::Between(SECOND, 2 * SECOND);
    let measured = run(1, protocol, replicas, Situation::FaultFree, UNDER_WAY, second).expect("measured");
    assert!(measured.batches > 10, "{protocol}, {replicas} replicas: {measured:?}");
    let checkpoints = measured.traffic.get(&Kind::Checkpoint).map_or(0, |traffic| traffic.messages);
    (measured.total().messages - checkpoints) as f64 / measured.batches as f64
}

#[test]
fn messages_of_hotstuff_stay_linear_up_to_64_replicas() {
    let [small, medium, large] =
        [4, 16, 64].map(|size| ordering_messages(Protocol::HotStuff, size) / (size - 1) as f64);
    for other in [medium, large] {
        assert!((0.7..2.0).contains(&(other / small)), "{small:.2} {medium:.2} {large:.2} for each other replica");
    }
}

#[test]
fn messages_of_pbft_quadruple_whenever_n_doubles() {
    let messages = [4, 8, 16, 32].map(|size| ordering_messages(Protocol::Pbft, size));
    assert!(messages.windows(2).all(|pair| (3.4..4.8).contains(&(pair[1] / pair[0]))), "{messages:.1?}");
}

#[test]
fn a_dead_leader_costs_a_timeout_and_what_a_view_change_takes() {
    for row in rows(&[4], Situation::LeaderDies) {
        assert!((250_000..900_000).contains(&row.measured.gap), "{row:?}");
        let kinds = &row.measured.traffic;
        assert!(kinds[&Kind::ViewChange].messages >= 9, "three tell three: {row:?}");
    }
}

#[test]
fn one_seed_gives_one_count() {
    let count = || measure(7, Protocol::HotStuff, 4, Situation::Silent).expect("measured").measured;
    assert_eq!(count(), count());
}

#[test]
fn the_plots_are_drawn() {
    let place = tempfile::tempdir().expect("a place");
    let rows: Vec<Row> = Situation::ALL.into_iter().flat_map(|situation| rows(&[4, 7], situation)).collect();
    let written = plot::write(place.path(), &rows).expect("written");
    assert_eq!(written.len(), Figure::ALL.len() + 1);
    for path in written {
        let svg = std::fs::read_to_string(path).expect("there");
        assert!(svg.contains("<polyline") && svg.contains("hotstuff"), "{svg}");
    }
}
