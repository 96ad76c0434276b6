# What people type. `make help` lists it.

.DEFAULT_GOAL := build
.PHONY: help setup build demo test convergence model check test-clients test-versions test-redis-py test-differential test-faults soak
.PHONY: bench bench-fairness instructions instructions-record test-million test-redis-suite fuzz deny

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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

model: ## 100,000 schedules of the model of the sequencer (MODEL_SEEDS=a..b for others)
	CARGO_PROFILE_DEV_OPT_LEVEL=2 MODEL_SEEDS=$${MODEL_SEEDS:-1..100001} cargo test --locked --target-dir target/model \
		--test model -- --nocapture

test-clients: setup ## real clients through a whole rollout: redis-py, ioredis, node-redis, redis-rs, fred, job queues
	scripts/setup-clients
	CLIENTS=full cargo test --locked --test clients -- --include-ignored --test-threads 2 --skip suite_of

test-versions: setup ## stores of different versions in both roles: Redis 6.2 to 8.2, Valkey 8.1 and 9.1
	scripts/setup-servers
	VERSIONS=full cargo test --locked --test versions -- --test-threads 2

test-redis-py: setup ## redis-py's own test suite, directly and through every stage: takes half an hour
	scripts/setup-redis-py-suite
	CLIENTS=full cargo test --locked --test clients -- --ignored --nocapture suite_of_redis_py

test-faults: setup ## a network that fails in every way before either store, in every stage, in FAULT_SEEDS orders (20)
	FAULT_SEEDS=$(or $(FAULT_SEEDS),20) cargo test --locked --test fault_injection -- --nocapture faults

soak: setup ## everything at once for SOAK_MINUTES (60): load, churn, faults, flips, killed stores; memory and descriptors stay flat
	cargo test --release --locked --test fault_injection -- --ignored --nocapture --exact soak::soak_for_long

test-differential: setup ## the same bytes to a server and to the proxy: 1,000 generated conversations, values of 512 MB
	DIFFERENTIAL_SEEDS=1..1001 cargo test --locked --test differential -- --include-ignored

bench-fairness: setup ## small reads beside huge values, deep pipelines, slow readers: direct, twemproxy, the proxy
	cargo bench --locked --bench fairness

test-million: setup ## a million keys through a whole rollout and back, and how fast that is
	BACKFILL_KEYS=1000000 cargo test --release --locked --test backfill -- \
	  --nocapture --include-ignored --test-threads 1 to_the_end rates

test-redis-suite: setup ## Redis's own test suite, against a lone server and through the proxy in every stage
	scripts/redis-suite

deny: ## licences, sources, double versions and advisories of the dependencies
	scripts/deny

FUZZ_SECONDS ?= 600
fuzz: ## fuzz every target for FUZZ_SECONDS; needs cargo-fuzz, and a stable toolchain is enough
	cd fuzz && for target in request stream reply config command script compare; do \
	    RUSTC_BOOTSTRAP=1 cargo fuzz run -s none $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096 || exit 1; \
	done

bench: setup ## the proxy beside its peers, in turns (minutes; BENCH=full: half an hour; BENCH=smoke: does it work here?)
	scripts/setup-bench
	ENVOY=$(CURDIR)/.cache/bench/envoy cargo bench --locked --bench compare -- $(or $(BENCH),quick)

instructions: setup ## user instructions per request, held against benches/instructions.txt
	cargo bench --locked --bench compare -- instructions

instructions-record: setup ## the same, and they are recorded
	cargo bench --locked --bench compare -- instructions --record

check: ## formatting, lints, documentation
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

