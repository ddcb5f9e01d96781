use super::*;

#[test]
fn the_same_seed_gives_the_same_trace_to_the_byte() {
    for seed in [3, 8, 21] {
        let (first, second) = (run(seed, &Options::default()), run(seed, &Options::default()));
        assert_eq!(first.violation, None, "seed {seed}");
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}");
    }
    assert_ne!(run(3, &Options::default()).trace_hash, run(4, &Options::default()).trace_hash);
}
