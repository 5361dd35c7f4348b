#!/usr/bin/env bash
# Puts each mutant of tests/mutants into a copy of the tree, one at a time, and expects the tests
# that it names to fail.
#
#   scripts/mutants.sh                             all of them; some hours on two slow cores
#   scripts/mutants.sh skip-sync stale-last-event  only these
#
# tests/mutants/main.rs describes the files. A mutant that no longer applies is an error, in the
# normal tests too.
#
# The copy is in target/mutants and has a separate target directory, with a fast profile and
# incremental builds. So the first run compiles RocksDB again, unless ROCKSDB_LIB_DIR names its
# directory. The tests of a mutant may take LIMIT=300 seconds; if they hang, the mutant counts as
# caught.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

root=$PWD
target=${CARGO_TARGET_DIR:-$root/target}
place=$target/mutants
tree=$place/tree
logs=$place/logs
limit=${LIMIT:-300}
mkdir -p "$tree" "$logs"

export CARGO_TARGET_DIR=$place/target CARGO_INCREMENTAL=1
# Not optimized, because a mutant costs mostly its build. The checks are those of a release test.
export CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_DEBUG_ASSERTIONS=false

fail() {
    printf 'mutants: %s\n' "$*" >&2
    exit 2
}

# Two runs at once would put their faults into the same copy.
exec 9>"$place/lock"
flock -n 9 || fail 'another run is under way'

# Makes the copy equal to the tree. Only files that differ are written, so that cargo's builds stay
# valid.
refresh() {
    local file
    (cd "$tree" && find . -type f -printf '%P\0') | while IFS= read -r -d '' file; do
        [ -f "$root/$file" ] || rm "$tree/$file"
    done
    git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
        if [ -f "$file" ] && ! cmp -s "$file" "$tree/$file"; then
            mkdir -p "$tree/$(dirname "$file")"
            cp "$file" "$tree/$file"
        fi
    done
}

# header MUTANT KEY: prints the values of the key.
header() {
    sed -n "/^in: /q; s/^$2: //p" "$root/tests/mutants/$1.mutant"
}

# check ARGS LOG: builds and runs the tests, up to the first that fails. Returns 0 if they pass, 1
# if one fails, 3 if they do not build, 124 if they hang.
check() {
    local arguments settings=()
    read -ra arguments <<<"$1"
    while [[ ${arguments[0]} == *=* ]]; do
        settings+=("${arguments[0]}")
        arguments=("${arguments[@]:1}")
    done
    (cd "$tree" && cargo test --all-features --quiet --no-run "${arguments[@]}") >"$2" 2>&1 || return 3
    cd "$tree" || return 3
    timeout -k 10 "$limit" env "${settings[@]}" cargo test --all-features "${arguments[@]}" >"$2" 2>&1 &
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

# first_failure LOG: prints the name of the first test that failed, or the signal that ended the
# tests.
first_failure() {
    local name
    name=$(sed -nE 's/^test (.*) \.\.\. FAILED$/\1/p; s/^---- (.*) stdout ----$/\1/p' "$1" | head -n 1)
    [ -n "$name" ] || name=$(grep -m 1 -oE 'signal: .*' "$1")
    printf '%s' "${name:-see $1}"
}

mutants=("$@")
if [ ${#mutants[@]} -eq 0 ]; then
    for file in tests/mutants/*.mutant; do
        mutants+=("$(basename "$file" .mutant)")
    done
fi
for mutant in "${mutants[@]}"; do
    [ -f "tests/mutants/$mutant.mutant" ] || fail "there is no tests/mutants/$mutant.mutant"
done

# Check that all mutants apply before anything else is built.
printf 'mutants: building in %s, to check that all mutants apply; the first build compiles RocksDB\n' "$place"
refresh
(cd "$tree" && cargo test --all-features --quiet --test mutants) >"$logs/apply.log" 2>&1 || fail "not all apply: $logs/apply.log"
applier=$(find "$CARGO_TARGET_DIR/debug/deps" -name 'mutants-*' -executable -printf '%T@ %p\n' | sort -n | tail -n 1)
applier=${applier#* }

# Tests that fail without a mutant prove nothing.
mapfile -t suites < <(for mutant in "${mutants[@]}"; do header "$mutant" tests; done | sort -u)
for suite in "${suites[@]}"; do
    printf "mutants: without a mutant: 'cargo test %s'\n" "$suite"
    check "$suite" "$logs/unchanged.log" || fail "without a mutant, 'cargo test $suite' fails: $logs/unchanged.log"
    grep -q '^running [1-9]' "$logs/unchanged.log" || fail "'cargo test $suite' selects no test"
done

trap refresh EXIT

caught=0
survived=0
bad=0
for mutant in "${mutants[@]}"; do
    log=$logs/$mutant.log
    began=$SECONDS
    "$applier" --apply "$mutant" "$tree" || fail "$mutant does not apply"
    check "$(header "$mutant" tests)" "$log"
    status=$?
    reason=$(header "$mutant" survives)
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
    printf '%-28s %4s s  %s\n' "$mutant" "$((SECONDS - began))" "$outcome"
    refresh
done

printf '%s mutants: %s caught, %s survive for a reason, %s wrong\n' "${#mutants[@]}" "$caught" "$survived" "$bad"
[ "$bad" -eq 0 ]
