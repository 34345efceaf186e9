# make test       what proves that it works, in an hour on two cores that never built it
# make test-all   the long shapes of the same, too
# make help       lists the parts
# Each installs what it needs, into target/tools or by apt-get, and says so.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
TOOLS := $(CURDIR)/target/tools
BIN := $(CURDIR)/target/debug/colonnade
K6_VERSION := v1.8.1
DENY_VERSION := 0.20.2
# The Rust whose lints the code is clean of: what a newer one adds is shown, and fails nobody's test.
LINTS_OF := 1.95
export PATH := $(TOOLS)/bin:$(PATH)
# Everything is built by this one command: any other choice of crates has other features, and compiles half of
# the dependencies again.
BUILD := cargo test --workspace --locked --no-run

.NOTPARALLEL:
.PHONY: help test test-all tests tests-all needs build lint deny advisories needs-deny needs-k6 test-rust test-pingora test-postgres test-postgres-all test-workers test-workers-all test-gateway test-gateway-all simulate test-client test-interop test-peer test-load figures bench bench-gateway bench-cluster

help: ## list the parts
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

test: needs lint deny tests test-client test-peer test-load ## what proves that it works, in the order of how soon it fails

test-all: needs lint deny tests-all simulate test-client test-peer test-load ## the same, with all API tests in every shape and thousands of seeds

needs: # programs of the system, all of them before the first long step
	@.ci/needs build postgres redis openssl curl venv pgbouncer chromium

build: ## the program and all tests
	$(BUILD)

lint: ## formatting and clippy, warnings denied
	@.ci/needs build
	cargo fmt --all --check
	@newest=$$(printf '%s\n' $(LINTS_OF) "$$(rustc --version | sed -E 's/^rustc ([0-9]+\.[0-9]+).*/\1/')" | sort -V | tail -1); \
	if [ "$$newest" = $(LINTS_OF) ]; then denied="-- --deny warnings"; \
	else denied=; echo "Rust $$newest is newer than $(LINTS_OF), of whose lints the code is clean: warnings are shown, and are no errors"; fi; \
	set -x; .ci/part clippy cargo clippy --workspace --all-targets --locked $$denied

# Forty seeds of the simulation here; `make simulate` runs as many as you like, `make test-all` a thousand.
TESTS := COLONNADE_SIMULATE_SEEDS=$${COLONNADE_SIMULATE_SEEDS:-40} .ci/part tests .ci/tests

tests: ## unit, property, gateway and process tests, and the API in four shapes: in each but the first what differs most there
	@.ci/needs build postgres redis openssl pgbouncer chromium
	@$(TESTS) rust pingora postgres workers gateway

tests-all: ## the same, with the whole API in every shape
	@.ci/needs build postgres redis openssl pgbouncer chromium
	@COLONNADE_TEST_KILLS=$${COLONNADE_TEST_KILLS:-50} $(TESTS) rust pingora postgres-all workers-all gateway-all

test-rust test-pingora test-postgres test-postgres-all test-workers test-workers-all test-gateway test-gateway-all: # one part of them
	@.ci/needs build postgres redis openssl pgbouncer chromium
	@$(TESTS) $(@:test-%=%)

SEEDS ?= 1000
FIRST ?= 0
simulate: ## the cluster in one thread, by SEEDS seeds from FIRST on: make simulate SEEDS=10000
	@.ci/needs build
	@COLONNADE_SIMULATE_SEEDS=$(SEEDS) COLONNADE_SIMULATE_FIRST=$(FIRST) .ci/part simulate \
	  cargo test --release --locked -p colonnade-testkit-simulation --test seeds -- --nocapture whatever

test-client: build ## encrypted conversations of real clients through the gateway
	@COLONNADE_BIN=$(BIN) .ci/part test-client .ci/clients --test-threads=2

test-interop: build ## rooms shared with a real Synapse, then a real Dendrite, which it installs (VERSIONS=1,12, PEER=dendrite for less)
	@.ci/needs openssl venv
	@verdict=0; for peer in $(or $(PEER),synapse dendrite); do \
	  COLONNADE_BIN=$(BIN) .ci/part interop-$$peer .ci/interop --peer $$peer $(if $(VERSIONS),--versions $(VERSIONS)) || verdict=1; \
	done; exit $$verdict

test-peer: build ## rooms shared with a real Synapse, the shortest of it
	@.ci/needs openssl venv
	@COLONNADE_BIN=$(BIN) .ci/part test-peer .ci/interop --short

needs-k6: # k6 is no package of Debian: Go installs it, a Go that knows how to get a newer one
	@if command -v k6 >/dev/null; then exit 0; fi; \
	if ! command -v go >/dev/null; then echo "SKIPPED: load test: neither k6 nor Go is here; install one of them to run it"; exit 0; fi; \
	version=$$(go env GOVERSION); oldest=$$(printf '%s\n' go1.21 "$$version" | sort -V | head -1); \
	if [ "$$oldest" != go1.21 ]; then echo "SKIPPED: load test: k6 wants Go 1.21 or newer, not $$version"; exit 0; fi; \
	echo "installing k6 $(K6_VERSION) into target/tools (a Go tool)"; \
	GOBIN=$(TOOLS)/bin GOFLAGS=-mod=mod .ci/part k6 go install go.k6.io/k6@$(K6_VERSION)

test-load: build needs-k6 ## the k6 scripts, every scenario at its smallest
	@.ci/needs curl
	@if command -v k6 >/dev/null; then .ci/part test-load loadtest/run.sh small; fi

needs-deny: # built without optimisation: its own profile takes ten times as long to build, and saves it four seconds
	@if ! command -v cargo-deny >/dev/null; then \
	  .ci/needs build; echo "installing cargo-deny $(DENY_VERSION) into target/tools"; \
	  CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 .ci/part cargo-deny \
	    cargo install --quiet --locked --root $(TOOLS) --target-dir $(TOOLS)/build cargo-deny@$(DENY_VERSION); \
	fi

deny: needs-deny ## licences, sources, banned crates
	@# It looks at the crates of every platform, which no build has fetched: not --offline.
	cargo deny --locked check --hide-inclusion-graph licenses bans sources

advisories: needs-deny ## known vulnerabilities: make advisories [DB=/a/clone/of/the/RustSec/database]
	@.ci/advisories $(DB)

figures: ## every figure of docs/benchmarks.md in one run, into target/figures: an hour with nothing beside it
	@.ci/needs build postgres redis openssl curl
	@.ci/figures

bench: ## criterion benchmarks; figures and how to read them are in docs/benchmarks.md
	cargo bench --profile dist -p colonnade-rules -p colonnade-services -p colonnade-core -p colonnade-gateway

bench-gateway: ## the gateway and nginx side by side: CPU per request, memory per connection
	cargo bench --profile dist -p colonnade-gateway --bench beside_nginx

bench-cluster: ## many processes: events per second, CPU per event, following, failover
	@.ci/needs build postgres redis
	cargo bench --profile dist -p colonnade-workers --bench cluster
