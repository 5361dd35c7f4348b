#!/usr/bin/env bash
# Puts each fault of tests/seeds into a copy of the tree, one at a time, and expects the tests it names to fail.
#
#   scripts/seeds.sh                      all of them; 24 minutes of two cores, once RocksDB is compiled
#   scripts/seeds.sh skip-sync stale-tip  these alone
#
# A seed is a patch with three lines before it:
#   what: the fault
#   guarantee: what it breaks
#   tests: arguments of `cargo test`, of the cheapest tests that must notice; before them there may be NAME=VALUE
# and a fourth where no test can or need notice:
#   survives: why
# A patch that does not apply any more is an error: mend it, or the fault is not tried.
#
# The copy lies in target/seeds and has a target directory of its own, with a quick profile and incremental builds. So
# RocksDB is compiled once more the first time, unless ROCKSDB_LIB_DIR says where it is. LIMIT=300 are the seconds
# that the tests may take; tests that a fault makes wait for ever count as having noticed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

root=$PWD
target=${CARGO_TARGET_DIR:-$root/target}
place=$target/seeds
tree=$place/tree
logs=$place/logs
limit=${LIMIT:-300}
mkdir -p "$tree" "$logs"

export CARGO_TARGET_DIR=$place/target CARGO_INCREMENTAL=1
# Quick to build, and with the checks that a release test has.
export CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_DEBUG_ASSERTIONS=false

fail() {
    printf 'seeds: %s\n' "$*" >&2
    exit 2
}

# Two runs would put their faults into one copy.
exec 9>"$place/lock"
flock -n 9 || fail 'another run is under way'

# A file is written only where it differs: what cargo has built stays good.
refresh() {
    local file
    (cd "$tree" && find . -type f -printf '%P\0') | while IFS= read -r -d '' file; do
        [ -f "$root/$file" ] || rm "$tree/$file"
    done
    git ls-files -z | while IFS= read -r -d '' file; do
        if [ -f "$file" ] && ! cmp -s "$file" "$tree/$file"; then
            mkdir -p "$tree/$(dirname "$file")"
            cp "$file" "$tree/$file"
        fi
    done
}

# header SEED KEY: what the line of this key says.
header() {
    sed -n "/^diff /q; s/^$2: //p" "$root/tests/seeds/$1.patch"
}

# put SEED [OPTION]: puts the fault into the copy.
put() {
    (cd "$tree" && patch -p1 --silent --fuzz=1 --no-backup-if-mismatch "${@:2}" <"$root/tests/seeds/$1.patch")
}

# check ARGS LOG: builds and runs the tests, up to the first that fails. 0 they pass, 1 one fails, 3 they do not build,
# 124 they hang.
check() {
    local arguments settings=()
    read -ra arguments <<<"$1"
    while [[ ${arguments[0]} == *=* ]]; do
        settings+=("${arguments[0]}")
        arguments=("${arguments[@]:1}")
    done
    (cd "$tree" && cargo test --quiet --no-run "${arguments[@]}") >"$2" 2>&1 || return 3
    cd "$tree" || return 3
    timeout -k 10 "$limit" env "${settings[@]}" cargo test "${arguments[@]}" >"$2" 2>&1 &
    local running=$!
    cd "$root" || return 3
    while kill -0 $running 2>/dev/null; do
        if grep -q '^test .* FAILED$' "$2"; then
            kill $running 2>/dev/null
            wait $running
            return 1
        fi
        sleep 0.2
    done
    wait $running
    local status=$?
    case $status in
    0 | 124) return $status ;;
    137) return 124 ;;
    *) return 1 ;;
    esac
}

# The first test that failed, by its name; or what ended the tests.
first_failure() {
    local name
    name=$(sed -nE 's/^test (.*) \.\.\. FAILED$/\1/p; s/^---- (.*) stdout ----$/\1/p' "$1" | head -n 1)
    [ -n "$name" ] || name=$(grep -m 1 -oE 'signal: .*' "$1")
    printf '%s' "${name:-see $1}"
}

seeds=("$@")
if [ ${#seeds[@]} -eq 0 ]; then
    for patch in tests/seeds/*.patch; do
        seeds+=("$(basename "$patch" .patch)")
    done
fi

# Everything is looked at before anything is built.
refresh
for seed in "${seeds[@]}"; do
    patch=$root/tests/seeds/$seed.patch
    [ -f "$patch" ] || fail "there is no $patch"
    for key in what guarantee tests; do
        [ -n "$(header "$seed" "$key")" ] || fail "$seed: no line '$key:'"
    done
    put "$seed" --dry-run || fail "$seed: the patch does not apply"
done

# Tests that fail by themselves notice nothing.
mapfile -t suites < <(for seed in "${seeds[@]}"; do header "$seed" tests; done | sort -u)
for suite in "${suites[@]}"; do
    check "$suite" "$logs/unchanged.log" || fail "without a fault, 'cargo test $suite' fails: $logs/unchanged.log"
done

trap refresh EXIT

caught=0
survived=0
bad=0
for seed in "${seeds[@]}"; do
    log=$logs/$seed.log
    began=$SECONDS
    put "$seed" || fail "$seed: the patch does not apply"
    check "$(header "$seed" tests)" "$log"
    status=$?
    reason=$(header "$seed" survives)
    case $status in
    0)
        if [ -n "$reason" ]; then
            survived=$((survived + 1))
            outcome="survives: $reason"
        else
            bad=$((bad + 1))
            outcome=SURVIVED
        fi
        ;;
    1) outcome="caught by $(first_failure "$log")" ;;
    3) bad=$((bad + 1)) outcome='DOES NOT BUILD' ;;
    124) outcome='caught: hangs' ;;
    esac
    if [ $status -eq 1 ] || [ $status -eq 124 ]; then
        caught=$((caught + 1))
        [ -z "$reason" ] || outcome+=' (and was said to survive)'
    fi
    printf '%-28s %4s s  %s\n' "$seed" "$((SECONDS - began))" "$outcome"
    refresh
done

printf '%s faults: %s caught, %s survive for a reason, %s wrong\n' "${#seeds[@]}" "$caught" "$survived" "$bad"
[ "$bad" -eq 0 ]
