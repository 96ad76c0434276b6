# What people type. `make help` lists it.

.DEFAULT_GOAL := build
.PHONY: help setup build demo test convergence check test-clients test-versions

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install redis-server if it is missing
	@scripts/setup

build: ## the release binary: target/release/multistore
	cargo build --release --locked

demo: setup ## two real stores, a workload, the whole rollout on one screen
	@cargo run --release --locked --quiet -- demo

test: setup ## every test, against real servers
	cargo test --locked

convergence: setup ## 200 seeds of the convergence test: clients, flips, crashes, equal stores
	CONVERGENCE_SEEDS=1..201 cargo test --locked --test convergence -- --nocapture

test-clients: setup ## real clients through a whole rollout: redis-py, ioredis, node-redis, Sidekiq, redis-benchmark
	scripts/setup-clients
	CLIENTS=full cargo test --locked --test clients -- --include-ignored --test-threads 2

test-versions: setup ## stores of different versions in both roles: Redis 6.2 to 8.2, Valkey 8.1 and 9.1
	scripts/setup-servers
	VERSIONS=full cargo test --locked --test versions -- --test-threads 2

check: ## formatting, lints, documentation
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

