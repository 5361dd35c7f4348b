#!/usr/bin/env bash
# Finds words that the documents, the documentation of the API, help and error texts must not use:
# CONTRIBUTING.md says what to write instead. Exit code 1 if there are any.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

banned=(
    'what came of' '\bfor ever\b' '\banew\b' 'nobody was told' '\b[Ww]hoever\b' '\b[Pp]ass(ed|es) over\b'
    '\b[Bb]eside\b' '\b(lie|lies|stand|stands) (behind|next to|in|under|at|above|below)\b(?! line)' '\btold of\b'
    'name is none' 'that is none\b' '\bWho (wants|comes|asks|reads)\b'
    'built aside' 'made aside' '\bis to be had\b'
)
found=0
for pattern in "${banned[@]}"; do
    if git grep -nP -e "$pattern" -- 'src/*.rs' 'docs/*.md' '*.md' ':!docs/measured' ':!CONTRIBUTING.md'; then
        found=1
    fi
done
[ "$found" = 0 ] || printf 'language: write it plainly: see CONTRIBUTING.md\n' >&2
exit "$found"
