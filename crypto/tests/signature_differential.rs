//! Rule X1: single checks, batches and the specification accept the same signatures. A short run; the long one is
//! `cargo run --release -p quorate-crypto --example signature_differential -- 1000000`.

mod adversarial;

#[test]
fn single_batch_and_specification_agree() {
    let tally = adversarial::compare(1, 3_000);
    // Both outcomes must be common, or the comparison would show nothing.
    assert!(tally.accepted * 4 > tally.cases, "{tally:?}");
    assert!(tally.accepted * 4 < tally.cases * 3, "{tally:?}");
}
