# make test   runs everything; installs what it needs into target/tools and says so.
# make help   lists the parts.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
TOOLS := $(CURDIR)/target/tools
BIN := $(CURDIR)/target/debug/colonnade
K6_VERSION := v1.8.1
DENY_VERSION := 0.20.2
export PATH := $(TOOLS)/bin:$(PATH)

.PHONY: help test lint deny needs-postgres needs-redis needs-pgbouncer needs-chromium test-rust test-workers test-gateway simulate test-client test-load bench bench-gateway bench-cluster

help: ## list the parts
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

test: lint test-rust test-client test-load deny ## everything, in the order of how soon it fails

lint: ## formatting and clippy, warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- --deny warnings

needs-postgres: # the tests start a PostgreSQL of their own; its programs must be there
	@if ! ls $${COLONNADE_TEST_POSTGRES_BIN:-/usr/lib/postgresql/*/bin}/initdb >/dev/null 2>&1 && ! command -v initdb >/dev/null; then \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    echo "installing PostgreSQL (apt-get install postgresql), without a server of the system"; \
	    mkdir -p /etc/postgresql-common; \
	    test -e /etc/postgresql-common/createcluster.conf || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf; \
	    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postgresql; \
	  else echo "PostgreSQL 15 or newer is missing, and half of the tests run on it: apt-get install postgresql"; exit 1; fi; \
	fi

needs-redis: # the tests of the bus start a Redis of their own
	@if ! command -v redis-server >/dev/null; then \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    echo "installing Redis (apt-get install redis-server), for the program alone"; \
	    apt-get update -q && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends redis-server; \
	  else echo "redis-server 6 or newer is missing, and the tests of the bus run on it: apt-get install redis-server"; exit 1; fi; \
	fi

needs-chromium: # one test shows the status page in a browser, and says so when it has to be left out
	@if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    echo "installing Chromium (apt-get install chromium)"; \
	    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium || true; \
	  else echo "SKIPPED: the status page in a browser: apt-get install chromium"; fi; \
	fi

needs-pgbouncer: # one test runs workers behind a pooler, and says so when it has to be left out
	@if ! test -x /usr/sbin/pgbouncer && ! command -v pgbouncer >/dev/null; then \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    echo "installing PgBouncer (apt-get install pgbouncer), for the program alone"; \
	    apt-get update -q && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends pgbouncer || true; \
	  else echo "SKIPPED: workers behind a pooler: apt-get install pgbouncer"; fi; \
	fi

test-rust: needs-postgres needs-redis needs-pgbouncer needs-chromium ## unit, property, API, gateway and process tests
	cargo test --workspace --locked
	# The same API, one process on PostgreSQL.
	COLONNADE_TEST_DATABASE=postgres cargo test --locked -p colonnade-core --test it
	# A part of it, many workers on PostgreSQL and Redis; `make test-workers` runs the rest, too.
	COLONNADE_TEST_SHAPE=workers cargo test --locked -p colonnade-core --test it -- rooms:: timeline::
	# A part of it, through a gateway process before six worker processes; `make test-gateway` runs the rest, too.
	cargo build --locked -p colonnade-workers
	COLONNADE_BIN=$(BIN) COLONNADE_TEST_SHAPE=gateway cargo test --locked -p colonnade-core --test it -- profiles:: rooms:: versions:: encryption::through_sync

test-workers: needs-postgres needs-redis ## the API tests on four workers, PostgreSQL and Redis (minutes)
	COLONNADE_TEST_SHAPE=workers cargo test --locked -p colonnade-core --test it -- --skip tidy:: --skip published_rooms

test-gateway: needs-postgres needs-redis ## the API tests through a gateway and six workers, each a process (five minutes)
	cargo build --locked -p colonnade-workers
	COLONNADE_BIN=$(BIN) COLONNADE_TEST_SHAPE=gateway cargo test --locked -p colonnade-core --test it -- --skip tidy::

SEEDS ?= 1000
FIRST ?= 0
simulate: ## the cluster in one thread, by SEEDS seeds from FIRST on: make simulate SEEDS=10000
	COLONNADE_SIMULATE_SEEDS=$(SEEDS) COLONNADE_SIMULATE_FIRST=$(FIRST) \
	  cargo test --release --locked -p colonnade-testkit-simulation --test seeds -- --nocapture whatever

test-client: ## encrypted conversations of real clients through the gateway
	cargo build --locked -p colonnade-workers
	# From outside: .cargo/config.toml makes our ruma exhaustive, which the client's older one is not ready for.
	cd / && COLONNADE_BIN=$(BIN) cargo test --locked --manifest-path $(CURDIR)/workers/sdk-tests/Cargo.toml -- --test-threads=2

test-load: ## the k6 scripts, every scenario at its smallest
	@if ! command -v k6 >/dev/null; then \
	  if command -v go >/dev/null; then \
	    echo "installing k6 $(K6_VERSION) into target/tools (a Go tool)"; \
	    GOBIN=$(TOOLS)/bin GOFLAGS=-mod=mod go install go.k6.io/k6@$(K6_VERSION); \
	  else echo "SKIPPED: load test: neither k6 nor Go is here; install one of them to run it"; exit 0; fi; \
	fi; \
	if command -v k6 >/dev/null; then cargo build --locked -p colonnade-workers; loadtest/run.sh small; fi

deny: ## licences, sources, banned crates
	@if ! command -v cargo-deny >/dev/null; then \
	  echo "installing cargo-deny $(DENY_VERSION) into target/tools"; \
	  cargo install --quiet --locked --root $(TOOLS) --target-dir $(TOOLS)/build cargo-deny@$(DENY_VERSION); \
	fi
	cargo deny --offline check --hide-inclusion-graph licenses bans sources

bench: ## criterion benchmarks; figures and how to read them are in docs/benchmarks.md
	cargo bench --profile dist -p colonnade-rules -p colonnade-services -p colonnade-core -p colonnade-gateway

bench-gateway: ## the gateway and nginx side by side: CPU per request, memory per connection
	cargo bench --profile dist -p colonnade-gateway --bench beside_nginx

bench-cluster: needs-postgres needs-redis ## many processes: events per second, CPU per event, following, failover
	cargo bench --profile dist -p colonnade-workers --bench cluster
