#!/usr/bin/env bash
# Installs the browser for the test of the page of examples/web_service, if this is Debian or Ubuntu
# and the user is root. It never fails: without a browser, that test is skipped.
set -uo pipefail

say() { printf 'browser: %s\n' "$*" >&2; }

is_there() { chromium --version >/dev/null 2>&1 && chromedriver --version >/dev/null 2>&1; }

if ! is_there && command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    say "installing chromium and chromium-driver"
    export DEBIAN_FRONTEND=noninteractive
    {
        timeout 60 apt-get update -qq
        timeout 600 apt-get install -y -qq --no-install-recommends chromium chromium-driver
    } >/dev/null 2>&1
fi
if is_there; then say "found chromium and chromedriver"; else say "found no chromium with chromedriver"; fi
exit 0
