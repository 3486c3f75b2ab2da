# What a person types. `make help` lists it.

CARGO ?= cargo
# Tests under way at once: for a machine of two cores, where those on servers also wait.
TEST_THREADS ?= 4
.DEFAULT_GOAL := help

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: build ## Build, then show the whole way on real usage
	target/release/pulso demo

.PHONY: dev
dev: build ## Build, then keep a pipeline running on ./data
	target/release/pulso dev

.PHONY: build
build: ## Build the one binary, target/release/pulso
	$(CARGO) build --release --locked -p pulso

.PHONY: test
test: ## Run every test, on real servers too where Java and Maven are there
	$(CARGO) test --workspace --locked --no-run
	RUST_TEST_THREADS=$(TEST_THREADS) dev/with-servers $(CARGO) test --workspace --locked

.PHONY: test-pdf
test-pdf: ## Run the tests of the feature billing/pdf; its typesetter takes ten minutes to build
	$(CARGO) test --locked -p billing --features pdf --lib print

.PHONY: test-tls
test-tls: ## Run the tests of TLS and SCRAM to Kafka and CQL; needs OpenSSL's headers and pkg-config
	$(CARGO) test --locked -p storage --features kafka-tls,scylla-tls --test kafka --test scylla --no-run
	PULSO_TEST_TLS=1 dev/with-servers $(CARGO) test --locked -p storage --features kafka-tls,scylla-tls \
		--test kafka --test scylla -- tls:: guarded

.PHONY: services
services: ## Start Kafka and Cassandra on loopback, without containers
	dev/services up

.PHONY: services-down
services-down: ## Stop them; their data stays
	dev/services down

.PHONY: cluster-demo
cluster-demo: build ## The sample through four stages on real Kafka and CQL servers, compared with embedded
	dev/cluster-demo

.PHONY: compose
compose: ## Build the image and start everything in containers, on Kafka and ScyllaDB
	docker compose up --build --detach --wait

.PHONY: test-faults
test-faults: ## Run the kill tests 20 times a crash point, the simulation at length, floods under a hard limit; write reports
	PULSO_TEST_KILLS=20 $(CARGO) test --locked -p pulso --test all -- --test-threads 1 --nocapture no_kill
	PULSO_TEST_OUTAGE_SECONDS=60 $(CARGO) test --locked -p pulso --test all -- --nocapture servers_that_hang
	PULSO_TEST_HARD_LIMIT=1 $(CARGO) test --locked -p pulso --test all -- --nocapture hard_limit
	PULSO_FAULT_ROUNDS=20 $(CARGO) test --locked -p storage --test kill
	$(MAKE) test-simulation
	simulation/plant

# Everything but the tests themselves is optimised in the dev profile already.
.PHONY: test-simulation
test-simulation: ## Run 100,000 seeds of the simulation, optimised
	PULSO_TEST_ROUNDS=100000 CARGO_PROFILE_DEV_OPT_LEVEL=2 $(CARGO) test --locked -p simulation -- --nocapture

.PHONY: test-attacks
test-attacks: ## Attack a server with default bounds over loopback and write reports/attacks.md
	PULSO_TEST_ATTACKS=1 $(CARGO) test --locked -p pulso --test all -- --test-threads 1 --nocapture attacks_in_full

# The target of a guided run and its length; `make fuzz TARGET=help` lists the targets.
TARGET ?= fold
SECONDS ?= 60

.PHONY: fuzz
fuzz: ## Search for inputs that break a law: TARGET=fold SECONDS=60
	fuzz/guided $(TARGET) $(SECONDS)

.PHONY: fuzz-smoke
fuzz-smoke: ## Run every target over its corpus and 2,000 mutations: PULSO_FUZZ_SEED=1
	PULSO_FUZZ_CASES=$${PULSO_FUZZ_CASES:-2000} $(CARGO) test --locked -p fuzz --test smoke -- --nocapture

.PHONY: bench
bench: build ## Measure the pipeline on this machine
	target/release/pulso bench pipeline
	target/release/pulso bench pipeline --identity ids
	target/release/pulso bench pipeline --mode unary --pulses 20000

# Lints the document that `/openapi.json` serves. Needs Node; the version is pinned here alone.
REDOCLY ?= @redocly/cli@2.77.0

.PHONY: redocly
redocly:
	REDOCLY_TELEMETRY=off npx --yes $(REDOCLY) --version

.PHONY: lint-openapi
lint-openapi: ## Check the description of HTTP and its examples; needs Node
	$(CARGO) run --quiet --locked -p pulso -- openapi > target/openapi.json
	REDOCLY_TELEMETRY=off npx --yes $(REDOCLY) lint --config redocly.yaml target/openapi.json

.PHONY: lint
lint: ## Check form, lints and documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
