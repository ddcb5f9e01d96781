#!/usr/bin/env bash
# Runs the tests that are to kill the mutants the simulator cannot see, each with its mutant loose: a test that still
# passes is an error. Give names to run only those.
set -uo pipefail
cd "$(dirname "$0")/.."
rows=$(cargo run --quiet --release --package quorate-testnet --features mutants -- simulate --mutants --seeds 0 --json |
    sed -n 's/.*"by":"\([^"]*\)".*"fate":"left-to-test".*"mutant":"\([^"]*\)".*/\2 \1/p')
survivors=0
while read -r mutant package test; do
    [ $# -gt 0 ] && [[ " $* " != *" $mutant "* ]] && continue
    if ! cargo test --quiet --package "$package" --features quorate-crypto/mutants --no-run >/dev/null 2>&1; then
        echo "$mutant: $package does not build"; exit 1
    fi
    # What a mutant fails on is no case to keep.
    output=$(QUORATE_MUTANT="$mutant" PROPTEST_DISABLE_FAILURE_PERSISTENCE=1 RUST_BACKTRACE=0 cargo test --quiet --package "$package" \
        --features quorate-crypto/mutants --lib --tests -- "$test" 2>&1)
    if [ $? -eq 0 ]; then
        printf '%-26s SURVIVED %s %s\n' "$mutant" "$package" "$test"; survivors=$((survivors + 1))
    else
        printf '%-26s %s\n' "$mutant" "$(grep -m1 -oE '^(test )?[a-z0-9_:]+ (--- FAILED|\.\.\. FAILED)|^    [a-z0-9_]+(::[a-z0-9_]+)+$' <<<"$output" | head -1)"
    fi
done <<<"$rows"
echo "$survivors survived"
[ "$survivors" -eq 0 ]
