# `make demo` shows annals with the history of a git repository. `make test` runs all tests. `make
# proof` runs the tests of crashes and failing disks in full.

# The repository that `make demo` reads.
REPO ?= .
# The store that `make demo` writes. A second run adds only new commits, provided that the history
# only grew at its end.
STORE ?= $(if $(filter .,$(REPO)),history,$(notdir $(abspath $(REPO)))).annals

# The same profile and features for every target, so that RocksDB is compiled once.
SELECT := --release --all-features
BUILT := $(or $(CARGO_TARGET_DIR),target)/release
ANNALS := $(BUILT)/annals
# The files in which tests that cannot run on this machine record that.
SKIPPED := $(BUILT)/../tmp/skipped
ifndef CARGO_TARGET_DIR
SKIPPED += examples/web_service/target/tmp/skipped
endif

.PHONY: demo test proof check ci setup build

demo: build
	@set -e; lines=$$(mktemp); trap 'rm -f "$$lines"' EXIT; \
	$(BUILT)/examples/git_history "$(REPO)" > "$$lines"; \
	echo "-- import: the commits of $(REPO), one event each, and one for each file they touched"; \
	$(ANNALS) import --clamp-times "$(STORE)" "$$lines"; \
	echo "-- verify"; $(ANNALS) verify "$(STORE)"; \
	echo "-- stat"; $(ANNALS) stat "$(STORE)"; \
	echo "-- log, the first ten events"; $(ANNALS) log "$(STORE)" --limit 10

# Builds the command line and the converter, with the features of the tests: see SELECT.
build: setup
	cargo build $(SELECT) --bins --examples

test: setup
	@rm -f $(SKIPPED)
	cargo test $(SELECT)
	cargo test --release --manifest-path tests/schedules/Cargo.toml
	cargo test --release --manifest-path fuzz/Cargo.toml --no-default-features
	cargo test --release --manifest-path examples/web_service/Cargo.toml
	@mkdir -p $(dir $(SKIPPED)); touch $(SKIPPED); echo "$$(cat $(SKIPPED) | wc -l) skipped"; \
	cat $(SKIPPED)

# Runs for hours: see scripts/proof.sh.
proof: setup
	scripts/proof.sh

check: setup
	cargo fmt --check
	scripts/language.sh
	cargo clippy $(SELECT) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(SELECT) --no-deps

ci:
	.ci/run

setup:
	@scripts/setup.sh
