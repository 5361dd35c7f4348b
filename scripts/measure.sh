#!/usr/bin/env bash
# Measures annals with benches/measure; writes the figures into docs/PERFORMANCE.md, and the details
# and pictures into docs/measured. Run nothing else on the machine at the same time.
#
#   scripts/measure.sh                   all of it
#   scripts/measure.sh engine growth     only these parts
#
# Parts: engine (annals compared with RocksDB alone), peers (annals compared with other stores),
# workloads (the same stores with the workloads of a public benchmark), growth, tasks (the async
# API compared with the blocking one), boundaries (tags, conditions and reads by tag), deletion.
#   DIR=target/measure    a directory on the disk to measure, for temporary stores
#   EVENTS=30000000       the size to which the store grows
#   PEERS="--payload 200 --rounds 3 --seconds 1"    options of the comparison with the peers
#   WORKLOADS="--rounds 3"    options of the workloads
#   TASKS="--rounds 3"    options of the tasks
#   BOUNDARIES="--rounds 3"    options of tags and conditions
#   DELETION="--events 10000000"    options of deletion
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dir=${DIR:-target/measure}
out=$PWD/docs/measured
mkdir -p "$dir"
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(engine peers workloads growth tasks boundaries deletion)
for name in "${parts[@]}"; do
    case $name in
    engine | peers | workloads | growth | tasks | boundaries | deletion) ;;
    *) printf 'no such part: %s\n' "$name" >&2; exit 2 ;;
    esac
done

# section NAME PATTERN: replaces the section NAME of docs/PERFORMANCE.md, which is between marks, by
# lines of standard input: the first line, and all lines from the one that begins with PATTERN up to
# "## Each question".
section() {
    local page=docs/PERFORMANCE.md text
    text=$(mktemp)
    awk -v from="^$2" 'NR == 1 { print; print "" } $0 ~ from { on = 1 } /^## Each question/ { on = 0 } on' |
        sed 's/^## /### /' >"$text"
    awk -v begin="<!-- $1 -->" -v end="<!-- end of $1 -->" -v text="$text" '
        $0 == end { inside = 0 }
        !inside { print }
        $0 == begin { inside = 1; while ((getline line < text) > 0) print line }
    ' "$page" >"$page.new"
    mv "$page.new" "$page"
    rm "$text"
}

# Built from its directory, because its .cargo/config.toml sets the build options of SQLite. Both
# builds share one target directory, so that RocksDB is compiled once.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
(cd benches/measure && cargo build --release)
measure() { "$CARGO_TARGET_DIR/release/measure" "$@" --dir "$dir" --svg "$out/$1.svg"; }

for name in "${parts[@]}"; do
    printf '== %s\n' "$name" >&2
    text=$dir/$name.md
    case $name in
    engine)
        measure engine --seconds 4 >"$text"
        section engine 'The log: ' <"$text"
        ;;
    peers)
        # shellcheck disable=SC2086
        measure peers --drop-cache ${PEERS:---payload 200 --rounds 3 --seconds 1} >"$text"
        section peers '## Overview' <"$text"
        # Paths of this machine mean nothing elsewhere.
        sed -e '1s/^/# annals and its peers\n\n/' -e 's|^- command: .*|- command: `scripts/measure.sh peers`|' "$text" \
            >"$out/peers.md"
        ;;
    workloads)
        # shellcheck disable=SC2086
        measure workloads ${WORKLOADS:---rounds 3} >"$text"
        section workloads '## write-stream-unconditional' <"$text"
        ;;
    growth)
        measure growth --events "${EVENTS:-30000000}" >"$text"
        section growth '## As the log grows' <"$text"
        ;;
    tasks)
        # shellcheck disable=SC2086
        measure tasks ${TASKS:---rounds 3} >"$text"
        section tasks '## Appends, synced' <"$text"
        ;;
    boundaries)
        # shellcheck disable=SC2086
        measure boundaries ${BOUNDARIES:---rounds 3} >"$text"
        section boundaries '## Appends with tags' <"$text"
        ;;
    deletion)
        # shellcheck disable=SC2086
        measure deletion ${DELETION:---events 10000000} >"$text"
        section deletion '## Scavenging a store' <"$text"
        ;;
    esac
done
