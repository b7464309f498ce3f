# Each target sets up what it needs (scripts/setup.sh), so a fresh Debian or Ubuntu with Rust can start with any of them.

SHELL := bash
CARGO ?= cargo
TARGET_DIR = $(or $(CARGO_TARGET_DIR),target)
ADVISORIES = $(TARGET_DIR)/advisories.txt
# What no binary has by default: the vendors' buckets, queues and tables, PostgreSQL, and the suites for implementations of the traits.
FEATURES = --features scan-pipeline/azure,scan-pipeline/dynamodb,scan-pipeline/gcs,scan-pipeline/nats,scan-pipeline/postgres-tls,scan-pipeline/s3,scan-pipeline/sqs,scan-pipeline/testkit
# What is in no package and in no test: the Rust call that the benches of the packages compare with.
LINTED = --features scan-pipeline-node/bench,scan-pipeline-python/bench

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo demo-web test wheel wheel-test npm-pack check bench fmt lint deny docs setup-build setup-test setup-check

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: setup-build ## run the whole path on real files: scan, move, tag, tell, and prove it
	@$(CARGO) build --locked --bin scan-pipeline --bin demo
	@$(TARGET_DIR)/debug/demo demo

test: setup-test ## run every test
	@mkdir -p $(TARGET_DIR); set -o pipefail; $(CARGO) test --config 'target."cfg(unix)".runner = "scripts/deadline.sh"' \
	--workspace $(FEATURES) --locked --no-fail-fast | tee $(TARGET_DIR)/test.log; ended=$$?; \
	awk '/^test result:/ { passed += $$4; failed += $$6; ignored += $$8; suites++ } \
	END { print "make test: " passed+0 " passed, " failed+0 " failed, " ignored+0 " ignored, in " suites+0 " suites" }' \
	$(TARGET_DIR)/test.log; exit $$ended
	@FEATURES="$(FEATURES)" CARGO="$(CARGO)" scripts/python.sh
	@CARGO="$(CARGO)" scripts/node.sh test $(FEATURES)

demo-web: setup-build ## start a small upload page on localhost, which scans what is uploaded
	@CARGO="$(CARGO)" scripts/node.sh demo

wheel: setup-test ## build what `pip install` installs, and prove it in a clean environment
	@scripts/wheel.sh

wheel-test: setup-test ## the same in less time, for CI: without optimisation
	@PROFILE=dev scripts/wheel.sh

npm-pack: setup-build ## build what a user of the Node package installs
	@CARGO="$(CARGO)" scripts/node.sh pack

check: setup-check fmt lint deny docs test wheel-test ## what CI runs: format, lints, dependencies, documentation, tests
	@echo "make check: passed; $$(cat $(ADVISORIES))"

# clamd and clamscan bring a daemon with them, which nobody expects a Makefile to install.
bench: setup-build ## run the benchmarks; BENCH_FLAGS=--quick takes less time
	$(CARGO) bench --locked --package scan-pipeline-benches --bench scan
	$(CARGO) run --locked --release --package scan-pipeline-benches --bin side-by-side -- $(BENCH_FLAGS)
	$(CARGO) run --locked --release --package scan-pipeline-benches --bin pipeline -- $(BENCH_FLAGS) \
	$$(test -x $(TARGET_DIR)/servers/bin/versitygw || echo --rates)
	$(CARGO) run --locked --release --package scan-pipeline-benches --bin stores -- $(BENCH_FLAGS)
	$(CARGO) run --locked --release --package scan-pipeline-benches --bin queue -- $(BENCH_FLAGS)
	$(CARGO) run --locked --release --package scan-pipeline-benches --bin jobs -- $(BENCH_FLAGS)
	$(CARGO) run --locked --release --package scan-pipeline-benches --bin detectors -- $(BENCH_FLAGS)
	$(CARGO) run --locked --release --package scan-pipeline-benches --bin detectors-in-scan -- $(BENCH_FLAGS)
	@if python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then set -x; \
	CARGO="$(CARGO)" scripts/python-bench.sh $(BENCH_FLAGS); \
	else echo "NOT MEASURED: the Python package, for which Python 3.11 with its venv is needed (apt install python3-venv)."; fi
	@test -x $(TARGET_DIR)/servers/bin/versitygw || \
	echo "NOT MEASURED: objects from an S3 server, which is not installed (scripts/servers.sh)."
	@if command -v clamd >/dev/null && command -v clamscan >/dev/null; then set -x; \
	$(CARGO) run --locked --release --package scan-pipeline-benches --bin peers -- $(BENCH_FLAGS); \
	else echo "NOT MEASURED: clamd and clamscan, which are not installed (apt install clamav clamav-daemon)."; fi
	@if command -v npm >/dev/null; then set -x; \
	CARGO="$(CARGO)" scripts/node.sh bench $(if $(findstring --quick,$(BENCH_FLAGS)),--rounds 3 --every 16); \
	else echo "NOT MEASURED: the Node package, for which Node and npm are needed."; fi

fmt: setup-check ## is everything formatted
	$(CARGO) fmt --all --check

lint: setup-check ## clippy, whose warnings are errors
	$(CARGO) clippy --workspace --all-targets $(FEATURES) $(LINTED) --locked -- -D warnings

deny: setup-check ## licences, duplicates, sources and known vulnerabilities of the dependencies
	@scripts/deny.sh $(ADVISORIES)

docs: setup-check ## the documentation, whose warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps $(FEATURES) --locked

setup-build setup-test setup-check: setup-%:
	@scripts/setup.sh $*
