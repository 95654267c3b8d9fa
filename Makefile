# The only entry point. `make run` and `make test` do all their set-up themselves.
.DEFAULT_GOAL := help
SHELL := /bin/bash

.PHONY: attack bench-ssh help check identity interop image lock test patched
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

image: patched ## build out/vmlinuz, out/initramfs, out/boot.ipxe
	cargo run --quiet --locked --package image -- build

identity: patched ## a host key for the next boot: make identity NAMES=db1.example.com,192.0.2.1 [CA=key] [KEYS=file]
	cargo run --quiet --locked --package image -- identity --names '$(NAMES)' $(if $(CA),--authority '$(CA)') $(if $(KEYS),--keys '$(KEYS)')

lock: patched ## move image/packages.lock to what Debian's archive has now
	cargo run --quiet --locked --package image -- lock

.bench/openssh: # the peer of bench-ssh, from the host's own apt sources
	@mkdir -p $@.new && cd $@.new && apt-get --quiet --quiet download openssh-server openssh-sftp-server libwrap0 && for package in *.deb; do dpkg-deb --extract "$$package" .; done
	@rm -rf $@ && mv $@.new $@

bench-ssh: patched .bench/openssh ## our sshd beside OpenSSH's, on loopback, as root
	OPENSSH=$(CURDIR)/.bench/openssh cargo bench --locked --profile image --package sshd --bench openssh

.bench/peers/done: # other clients than OpenSSH's, from the host's own sources
	@rm -rf .bench/peers && mkdir -p .bench/peers && cd .bench/peers && apt-get --quiet --quiet download putty-tools dropbear-bin libtomcrypt1 libtommath1 rsync libpopt0 && for package in *.deb; do dpkg-deb --extract "$$package" .; done
	@python3 -m venv .bench/peers/venv && .bench/peers/venv/bin/pip install --quiet paramiko ansible-core ssh-audit
	@touch $@

interop: patched .bench/openssh .bench/peers/done ## sshd with paramiko, PuTTY, dropbear, libssh2, rsync, Ansible and ssh-audit
	PATH=$(CURDIR)/.bench/peers/venv/bin:$(CURDIR)/.bench/peers/usr/bin:$$PATH LD_LIBRARY_PATH=$(CURDIR)/.bench/peers/usr/lib/x86_64-linux-gnu SFTP_SERVER=$(CURDIR)/.bench/openssh/usr/lib/openssh/sftp-server INTEROP=1 cargo test --locked --package sshd --test interop

attack: patched ## the whole attack campaign against sshd, on loopback, as root: half an hour
	ATTACK=1 cargo test --locked --profile image --package sshd --test attack -- --nocapture --test-threads 1

test: check ## everything that CI checks
