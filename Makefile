# The only entry point. `make run` and `make test` do all their set-up themselves.
.DEFAULT_GOAL := help
SHELL := /bin/bash

.PHONY: help check test patched
help: ## what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.patched/russh/Cargo.toml: init/sshd/patches/russh.patch init/sshd/patches/fetch/Cargo.toml image/patch-russh
	@image/patch-russh
	@touch $@

patched: .patched/russh/Cargo.toml

check: patched ## the quick loop: formatting, clippy, unit and golden tests
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo test --locked --workspace

test: check ## everything that CI checks
