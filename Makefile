# Everything a person types. `make demo` and `make test` do all the set-up themselves.
.DEFAULT_GOAL := help
SHELL := /usr/bin/env bash

# Builds are large; a target directory outside of the checkout survives `git clean` and serves several checkouts.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/reckon/target
RECKON := $(CARGO_TARGET_DIR)/release/reckon

.PHONY: help install ui build demo check test test-airflow soak bench-speed bench-batch bench-serving format clean

help: ## What there is to type
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

install: ## Install what is missing: system packages, the Kafka jars, the ClickHouse wheel, the check tools
	@deploy/local/install

ui: install ## Build the page into serving/ui/dist
	@cd serving/ui && { [ -d node_modules ] || npm ci --silent --no-audit --no-fund; } && npm run --silent build

build: ui ## Build the binary (the whole workspace is selected, so that tests find the same dependencies built)
	cargo build --release --locked --workspace --bins

demo: build ## Replay a year of real purchases, settle it, print the reconciliation, show the page (DEMO_EXIT=1 ends after it)
	@deploy/local/demo $(RECKON)

check: ui ## Formatting, lints, docs, repository rules, licences, spelling, unused dependencies
	@tests/check

test: build ## Every test, the ones on real servers included
	@deploy/local/install --with-tests
	@tests/run $(RECKON)

test-airflow: ## The example DAG in a real Airflow, and the other schedulers' examples (the first time installs it)
	@tests/schedulers --airflow

soak: build ## The faults of the speed layer, played long: what was injected and survived, in at most 20 minutes
	@tests/soak

bench-speed: build ## Measure the speed layer beside its servers and beside Flink (RECKON_BENCH_EVENTS=2000000 for a small run)
	@deploy/local/install --with-bench
	@tests/bench-speed $(RECKON)

bench-batch: build ## Measure the exact recount beside DuckDB, ClickHouse and Polars (RECKON_BENCH_EVENTS=2000000 for a small run)
	@deploy/local/install --with-bench
	@tests/bench-batch $(RECKON)

bench-serving: build ## Measure the serving layer: kept and computed answers over ten million rows, ten thousand live clients
	@tests/bench-serving $(RECKON)

format: ## Format the code
	cargo fmt

clean: ## Remove what was built, and the local data
	rm -rf serving/ui/dist .local
	cargo clean
