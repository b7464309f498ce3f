# Each target sets up what it needs (scripts/setup.sh), so a fresh Debian or Ubuntu with Rust can start with any of them.

SHELL := bash
CARGO ?= cargo
TARGET_DIR = $(or $(CARGO_TARGET_DIR),target)
ADVISORIES = $(TARGET_DIR)/advisories.txt
DEMO_DEFINITIONS = scan-pipeline/definitions

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check bench fmt lint deny docs setup-build setup-test setup-check

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

# "Infected" is how a good demo ends, so exit code 1 is the one that passes.
demo: setup-build ## scan a folder of real files, clean, infected and unscannable, and show the table
	@$(CARGO) run --locked --bin make-demo -- demo
	@status=0; \
	$(CARGO) run --locked --bin scan-pipeline -- scan --definitions $(DEMO_DEFINITIONS) demo || status=$$?; \
	if [ $$status -ne 1 ]; then echo "The demo went wrong: exit code $$status, where 1 (infected) was expected." >&2; exit 1; fi
	@echo
	@echo "Exit code 1: something was infected. Threats are named with the path of the layer they were in, and what could"
	@echo "not be read to the end (encrypted, over a limit) is \"unscannable\" with its reason, never \"clean\"."

test: setup-test ## run every test
	@set -o pipefail; $(CARGO) test --workspace --locked --no-fail-fast | awk '{ print; fflush() } \
	/^test result:/ { passed += $$4; failed += $$6; ignored += $$8; suites++ } \
	END { print "make test: " passed+0 " passed, " failed+0 " failed, " ignored+0 " ignored, in " suites+0 " suites" }'

check: setup-check fmt lint deny docs test ## what CI runs: format, lints, dependencies, documentation, tests
	@echo "make check: passed; $$(cat $(ADVISORIES))"

# clamd and clamscan bring a daemon with them, which nobody expects a Makefile to install.
bench: setup-build ## run the benchmarks; BENCH_FLAGS=--quick takes less time
	$(CARGO) bench --locked --package scan-pipeline-benches --bench scan
	$(CARGO) run --locked --release --package scan-pipeline-benches --bin side-by-side -- $(BENCH_FLAGS)
	@if command -v clamd >/dev/null && command -v clamscan >/dev/null; then set -x; \
	$(CARGO) run --locked --release --package scan-pipeline-benches --bin peers -- $(BENCH_FLAGS); \
	else echo "NOT MEASURED: clamd and clamscan, which are not installed (apt install clamav clamav-daemon)."; fi

fmt: setup-check ## is everything formatted
	$(CARGO) fmt --all --check

lint: setup-check ## clippy, whose warnings are errors
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

deny: setup-check ## licences, duplicates, sources and known vulnerabilities of the dependencies
	@scripts/deny.sh $(ADVISORIES)

docs: setup-check ## the documentation, whose warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

setup-build setup-test setup-check: setup-%:
	@scripts/setup.sh $*
