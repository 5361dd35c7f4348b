#!/usr/bin/env bash
# Runs the long tests of every kind of fault, and prints a summary at the end.
#
#   scripts/proof.sh                      all parts, some hours on two cores
#   scripts/proof.sh kills power          only these parts
#
# Parts: orders, kills, power (cuts of the power at every point), errors (failing calls at every
# point, full disks), damage, fuzz. The environment sets the amount of the others:
#   ORDERS=100000    thread schedules per test
#   KILLS=5000       kills
#   DAMAGE=all       or a number of cases
#   FUZZ=300         seconds per target
#   ANNALS_TEST_CALLS=write,sync    only these failing calls
# The logs are in target/proof. docs/TESTING.md has a table of results.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
logs=$target/proof
mkdir -p "$logs"
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(orders kills power errors damage fuzz)
status=0
summary=()

# part NAME COMMAND...: runs the command, shows and logs its output, and adds the outcome to the
# summary.
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
    power) ANNALS_TEST_FAULTS=all part power suite faults --test-threads=1 power:: ;;
    errors) ANNALS_TEST_FAULTS=all part errors suite faults --test-threads=1 \
        io_error:: disk_full:: kill::at_each_change ;;
    damage) ANNALS_TEST_DAMAGE=${DAMAGE:-all} part damage suite faults corruption:: ;;
    fuzz) part fuzz fuzz/run "${FUZZ:-300}" ;;
    *) printf 'no such part: %s\n' "$name" >&2; exit 2 ;;
    esac
done

printf '\n== outcome; the figures are at the end of each log in %s\n' "$logs"
printf '%s\n' "${summary[@]}"
exit $status
