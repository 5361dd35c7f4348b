#!/usr/bin/env bash
# Measures annals beside its baseline and its peers, and as it grows; writes the figures into docs/PERFORMANCE.md, and the
# details and pictures into docs/measured. The machine should do nothing else meanwhile.
#
#   scripts/measure.sh                 all of it
#   scripts/measure.sh bench growth    these parts alone
#
# Parts: bench (annals beside what is below it), peers (annals beside what one would pick instead), growth.
#   DIR=target/measure    where the stores are made, and removed again: on the disk that is meant
#   EVENTS=30000000       how far it grows
#   PEERS="--payload 200 --rounds 3 --seconds 1"    how the peers are asked: see benches/peers
# The peers are a package of their own, with lock versions of its own: the first time, RocksDB is compiled once more.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dir=${DIR:-target/measure}
out=docs/measured
mkdir -p "$dir" "$out"
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(bench peers growth)

for name in "${parts[@]}"; do
    case $name in
    bench | peers | growth) ;;
    *) printf 'no such part: %s\n' "$name" >&2; exit 2 ;;
    esac
done

# section NAME: puts what comes on standard input between the marks of this name in docs/PERFORMANCE.md.
section() {
    local page=docs/PERFORMANCE.md text
    text=$(mktemp)
    cat >"$text"
    awk -v begin="<!-- $1 -->" -v end="<!-- end of $1 -->" -v text="$text" '
        $0 == end { inside = 0 }
        !inside { print }
        $0 == begin { inside = 1; while ((getline line < text) > 0) print line }
    ' "$page" >"$page.new"
    mv "$page.new" "$page"
    rm "$text"
}

# Says on what, in one line.
machine() {
    printf 'Measured on %s, %s with %s processors, %s, Linux %s, annals %s, on %s.\n' \
        "$(date -u +%Y-%m-%d)" "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" \
        "$(awk '/MemTotal/ { printf "%.0f GiB of memory", $2 / 1048576 }' /proc/meminfo)" "$(uname -r)" \
        "$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)" "$(df --output=fstype "$dir" | tail -n 1)"
}

fenced() {
    printf '```text\n'
    cat
    printf '```\n'
}

for name in "${parts[@]}"; do
    printf '== %s\n' "$name" >&2
    case $name in
    bench)
        cargo build --release --all-features --bins
        "${CARGO_TARGET_DIR:-target}/release/annals" bench --dir "$dir" --seconds 4 --report "$out/bench.html" \
            >"$dir/bench.txt"
        # Where it was measured is nobody's business but the machine's.
        sed -i "s|, in $(realpath "$dir")||" "$out/bench.html"
        { machine; echo; sed 's/, in [^ ]*$//' "$dir/bench.txt" | fenced; } | section bench
        ;;
    peers)
        # From its directory: its .cargo/config.toml builds SQLite as it should be.
        (cd benches/peers && cargo build --release)
        # shellcheck disable=SC2086
        "${CARGO_TARGET_DIR:-benches/peers/target}/release/peers" --dir "$dir" --drop-cache \
            ${PEERS:---payload 200 --rounds 3 --seconds 1} --svg "$out/peers.svg" >"$out/peers.md"
        sed -i 's/^- command: .*/- command: `scripts\/measure.sh peers`/' "$out/peers.md"
        { machine; echo; awk '/^## Overview/ { on = 1; next } /^## Each question/ { on = 0 } on' "$out/peers.md" |
            sed 's/^## /### /'; } | section peers
        ;;
    growth)
        cargo bench --all-features --bench growth -- --events "${EVENTS:-30000000}" --dir "$(realpath "$dir")" \
            --svg "$PWD/$out/growth.svg" >"$dir/growth.md"
        { machine; echo; sed 's/^## /### /' "$dir/growth.md"; } | section growth
        ;;
    esac
done
