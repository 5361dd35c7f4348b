#!/usr/bin/env bash
# Checks that the build requirements exist: cargo, a C++20 compiler, libclang. As root with apt-get,
# installs the last two.
set -euo pipefail

say() { printf 'setup: %s\n' "$*" >&2; }

has_cxx() {
    local compiler
    for compiler in ${CXX:-} c++ g++ clang++; do
        command -v "$compiler" >/dev/null 2>&1 || continue
        echo 'int main() { return 0; }' | "$compiler" -std=c++20 -x c++ -fsyntax-only - >/dev/null 2>&1 && return 0
    done
    return 1
}

# libclang itself: libclang-cpp is another library, and is often installed without it.
holds_libclang() {
    [ -n "$(find "$1" -maxdepth 1 \( -name 'libclang.so*' -o -name 'libclang-[0-9]*.so*' -o -name 'libclang.dylib' \) \
        -print -quit 2>/dev/null)" ]
}

has_libclang() {
    if [ -n "${LIBCLANG_PATH:-}" ]; then
        holds_libclang "$LIBCLANG_PATH"
        return
    fi
    local directory
    for directory in /usr/lib /usr/lib64 /usr/local/lib /usr/lib/*-linux-gnu* /usr/lib/llvm*/lib /usr/lib64/llvm*/lib \
        /opt/homebrew/opt/llvm/lib /usr/local/opt/llvm/lib /Library/Developer/CommandLineTools/usr/lib; do
        holds_libclang "$directory" && return 0
    done
    command -v llvm-config >/dev/null 2>&1 && holds_libclang "$(llvm-config --libdir)"
}

missing=()
has_cxx || missing+=("a C++20 compiler")
has_libclang || missing+=("libclang")

if [ ${#missing[@]} -gt 0 ] && command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    say "missing: ${missing[*]}; installing g++ and libclang-dev"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2
    apt-get install -y -qq --no-install-recommends g++ libclang-dev >&2
    missing=()
    has_cxx || missing+=("a C++20 compiler")
    has_libclang || missing+=("libclang")
fi

if ! command -v cargo >/dev/null 2>&1; then
    missing+=("cargo (Rust 1.89 or later, see https://rustup.rs)")
fi

if [ ${#missing[@]} -gt 0 ]; then
    for item in "${missing[@]}"; do say "missing: $item"; done
    cat >&2 <<'HELP'
setup: install what is missing, then run this again:
  Debian, Ubuntu   sudo apt-get install g++ libclang-dev
  Fedora           sudo dnf install gcc-c++ clang-devel
  Arch             sudo pacman -S gcc clang
  macOS            xcode-select --install
  elsewhere        set LIBCLANG_PATH to the directory that holds libclang
HELP
    exit 1
fi

say "found cargo, a C++20 compiler and libclang"
