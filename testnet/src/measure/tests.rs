use super::*;

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

#[test]
fn a_dead_leader_costs_a_timeout_and_what_a_view_change_takes() {
    for row in rows(&[4], Situation::LeaderDies) {
        assert!((250_000..900_000).contains(&row.measured.gap), "{row:?}");
        let kinds = &row.measured.traffic;
        assert!(kinds[&crate::sim::meter::Kind::ViewChange].messages >= 9, "three tell three: {row:?}");
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
