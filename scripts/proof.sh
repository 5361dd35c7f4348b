#!/usr/bin/env bash
# The long proof: every kind of fault, as often as there is time for, and a summary at the end.
#
#   scripts/proof.sh                      all of it, about two hours on two cores
#   scripts/proof.sh kills power          these parts alone
#
# Parts: orders, kills, power, damage, fuzz. How much of each is set by the environment:
#   ORDERS=100000 (orders of threads a test), KILLS=5000, DAMAGE=all (or a number of cases), FUZZ=300 (seconds a target)
# The logs are in target/proof. docs/TESTING.md holds the table of a run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
logs=$target/proof
mkdir -p "$logs"
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(orders kills power damage fuzz)
status=0
summary=()

# part NAME COMMAND...: runs it, shows its progress, and keeps its last words.
part() {
    local name=$1 began=$SECONDS outcome=held
    shift
    printf '== %s: %s\n' "$name" "$*"
    if ! "$@" 2>&1 | tee "$logs/$name.log"; then
        outcome=FAILED
        status=1
    fi
    summary+=("$(printf '%-8s %-7s %6s s' "$name" "$outcome" "$((SECONDS - began))")")
}

suite() {
    local test=$1
    shift
    cargo test --release --all-features --test "$test" -- --nocapture "$@"
}

for name in "${parts[@]}"; do
    case $name in
    orders) part orders env ANNALS_TEST_SCHEDULES="${ORDERS:-100000}" \
        cargo test --release --manifest-path tests/schedules/Cargo.toml ;;
    kills) ANNALS_TEST_KILLS=${KILLS:-5000} part kills suite faults kill:: --skip at_each_change ;;
    power) ANNALS_TEST_FAULTS=all part power suite faults --test-threads=1 \
        power:: io_error:: disk_full:: kill::at_each_change ;;
    damage) ANNALS_TEST_DAMAGE=${DAMAGE:-all} part damage suite faults corruption:: ;;
    fuzz) part fuzz fuzz/run "${FUZZ:-300}" ;;
    *) printf 'no such part: %s\n' "$name" >&2; exit 2 ;;
    esac
done

printf '\n== outcome; the figures are at the end of each log in %s\n' "$logs"
printf '%s\n' "${summary[@]}"
exit $status
