#!/usr/bin/env bash
# Finds words that the documents, the documentation of the API, help and error texts must not use:
# CONTRIBUTING.md says what to write instead. Exit code 1 if there are any.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# In the sources and the documents.
banned=(
    '[Ww]hat (came|comes|became|becomes) of' '\bfor ever\b' '\banew\b' '\b[Ww]hoever\b' '\bWho\b'
    '\b[Pp]ass(ed|es) over\b' '\b[Bb]eside\b' '\b[Aa]side\b' 'nobody was told' '\btold of\b'
    '\b[Jj]udging\b' '\b(lie|lies|stand|stands) (behind|next to|in|under|at|above|below)\b(?! line)'
    'name is none' 'that is none\b' '\bis to be had\b' '\bto be had\b' 'the way out' '\bmade last\b'
    'closed in order' '\bof today\b' '\b[Ll]ikewise\b' '\bin silence\b' '\bstretch(es)?\b'
    '\b[Ww]ho (waits|acts)\b'
)
# In the documents. The sources still use these words, in some places as the names of items.
banned_in_documents=(
    '\b[Jj]udge[sd]?\b' '\b[Nn]obody\b' '\b[Ss]omebody\b' '\b[Cc]ut short\b' '\bmend(s|ed)?\b'
    '\b(is|are|was|were|be|been|not) told\b' '\b([Gg]oes|[Gg]o|[Ww]ent) on\b' '\btips?\b'
)
found=0
# search PATTERN PATH...: prints each use of the pattern.
search() {
    local pattern=$1
    shift
    if git grep -nP -e "$pattern" -- "$@" ':!docs/measured' ':!CONTRIBUTING.md'; then
        found=1
    fi
}
for pattern in "${banned[@]}"; do
    search "$pattern" 'src/*.rs' '*.md'
done
for pattern in "${banned_in_documents[@]}"; do
    search "$pattern" '*.md'
done
[ "$found" = 0 ] || printf 'language: write it plainly: see CONTRIBUTING.md\n' >&2
exit "$found"
