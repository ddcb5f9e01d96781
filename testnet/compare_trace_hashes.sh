#!/bin/sh
# Compares the trace hashes of the first seeds between a debug and a release build: a run must depend on nothing but its
# seed and the sources. Usage: testnet/compare_trace_hashes.sh [SEEDS]
set -eu
cd "$(dirname "$0")/.."
seeds="${1:-200}"
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
for profile in dev release; do
    cargo run --quiet --profile "$profile" -p quorate-testnet -- simulate --seeds "$seeds" --protocol both --hashes >"$place/$profile"
done
if ! cmp "$place/dev" "$place/release"; then
    diff "$place/dev" "$place/release" | head -20
    echo "the traces of debug and release builds differ" >&2
    exit 1
fi
echo "$(wc -l <"$place/dev") trace hashes are equal in debug and release builds"
