# What a person types. `make help` lists it.

CARGO ?= cargo
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
test: ## Run every test
	$(CARGO) test --workspace --locked

.PHONY: test-faults
test-faults: ## Run the kill tests 20 times a crash point and write docs/faults-report.md
	PULSO_TEST_KILLS=20 $(CARGO) test --locked -p pulso --test kill -- --nocapture
	PULSO_FAULT_ROUNDS=20 $(CARGO) test --locked -p storage --test kill

.PHONY: bench
bench: build ## Measure the pipeline on this machine
	target/release/pulso bench pipeline
	target/release/pulso bench pipeline --identity ids
	target/release/pulso bench pipeline --mode unary --pulses 20000

.PHONY: lint
lint: ## Check form, lints and documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
