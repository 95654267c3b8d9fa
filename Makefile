# The only entry point. `make run` and `make test` do all their set-up themselves.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eo pipefail -c
MAKEFLAGS += --no-print-directory

# Names of targets cannot hold one.
ifneq ($(words $(CURDIR)),1)
$(error $(CURDIR): a blank in the path, which make cannot work with: move the checkout to one without)
endif

# Where a Rust may lie beside the PATH: rustup's, and Ubuntu's packages of one version, to which image/setup leads where the PATH's is too old.
export PATH := $(CURDIR)/.rust:$(PATH):$(HOME)/.cargo/bin
# What a person may say, also to the programs below; docs/build.md and docs/boot.md explain each.
export DISKS SSH_PORT SSH_KEY APPEND MEM QEMU_ACCEL BOOT MIRROR SNAPSHOT CACHE EXTRA FULL MICROCODE KERNEL KERNEL_ROOT
# Programs that are started elsewhere in the tree get it, too.
ifneq ($(CACHE),)
override CACHE := $(abspath $(CACHE))
endif
# Machines at a time.
JOBS ?= $(shell n=$$(nproc); echo $$((n < 4 ? n : 4)))
SHARD ?= 1/1
ROUNDS ?= 3
# Secure Boot starts no kernel but Debian's.
ifneq ($(SECURE_BOOT),)
KERNEL := $(or $(KERNEL),debian)
endif
# Where the image of the wanted kernel is: docs/kernel.md.
OUT := $(CURDIR)/out$(if $(filter debian,$(KERNEL)),-debian)
# What the VM tests boot: that one, and Debian's kernel for Secure Boot, which may be the same.
IMAGES := image $(if $(filter debian,$(KERNEL)),,signed)
FUZZ_SECONDS ?= 60
ATTACK ?= all

# What is built is to be the person's: serve becomes root by itself, for what listens.
ifneq ($(and $(filter 0,$(shell id -u)),$(filter-out 0,$(SUDO_UID))),)
ifneq ($(filter serve,$(MAKECMDGOALS)),)
$(error type it without sudo: make serve asks for root itself, once all is built)
endif
ifneq ($(shell stat -c %u '$(CURDIR)'),0)
$(warning by sudo: out/ and target/ become root's, and a make without sudo can no longer write to them; what is for root alone goes best in a clone of root's)
endif
endif
ifneq ($(filter serve,$(MAKECMDGOALS)),)
ifeq ($(IFACE),)
$(error make serve IFACE=eth0: which wire is the machine on? `ip -br address` lists them)
endif
endif

CARGO := cargo
IMAGE := $(CARGO) run --locked --quiet -p image --bin image --
VM_TEST := $(CARGO) run --locked --quiet -p image --bin vm-test -- --image $(OUT)
# What `cargo test` said last, for the sum in the last line.
UNITS := target/units.log

.PHONY: help setup setup-check patched builder peers check image run test sample test-all bench bench-tools bench-ssh bench-net attack identity params lock fuzz interop
.PHONY: repro clean sbom sign serve efi iso disk netboot kexec full hardware sizes kernel signed
help: ## what there is
	@grep -E '^[a-z -]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12
	@echo
	@echo 'make run takes DISKS="a.img b.qcow2" SSH_PORT=2222 SSH_KEY=~/.ssh/id_ed25519.pub APPEND="WORDS" MEM=2G'
	@echo '         QEMU_ACCEL=kvm QEMU=PROGRAM BOOT=kernel; test and test-all take JOBS=N and SHARD=I/N; bench ROUNDS=N;'
	@echo '         fuzz FUZZ_SECONDS=N; all that has to do with an image KERNEL=debian; all take CACHE=DIR MIRROR=URL SNAPSHOT=URL'

# What cargo needs on the host. Silent and quick where all is there.
setup:
	@image/setup
setup-check:
	@image/setup check

.patched/russh/Cargo.toml: $(wildcard init/sshd/patches/russh/*.patch) init/sshd/patches/russh init/sshd/patches/fetch/Cargo.toml image/patch-russh | setup
	@echo 'fetching russh, to lay our patches over it'
	@image/patch-russh
	@touch $@

patched: setup .patched/russh/Cargo.toml

# By itself, so that its compilation is seen.
builder: patched
	@$(CARGO) build --locked -p image --bins

check: setup-check patched ## the quick loop: formatting, clippy, unit and golden tests
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	cd fuzz && $(CARGO) clippy --locked --quiet -- -D warnings
	@mkdir -p target
	$(CARGO) test --locked --workspace 2>&1 | tee $(UNITS)

# The real tools that ours are compared with, in the cache: tests say that they were skipped where these are absent.
peers: builder
	@$(IMAGE) tools > /dev/null

image: builder ## build out/vmlinuz, out/initramfs, out/boot.ipxe and out/SHA256SUMS
	@$(IMAGE) build

kernel: builder ## build the custom kernel, once: about an hour of one CPU; image does so where it is not in the cache
	@$(IMAGE) kernel

signed: builder # the image with Debian's kernel, out-debian/
	@KERNEL=debian $(IMAGE) build

# EXTRA=x.cpio: one more archive, between nucleus and layers. FULL=1: with every layer. MICROCODE=1: the CPU's in front.
# CERT= and CERT_KEY=: an EFI program that Secure Boot starts where that certificate is enrolled.
efi kexec full: image ## other forms: lifeboat.efi, lifeboat-kexec.sh, initramfs-full (every layer); EXTRA=x.cpio FULL=1 MICROCODE=1, and CERT=cert.pem CERT_KEY=key.pem sign the first
	@$(IMAGE) forms $@ $(if $(CERT)$(CERT_KEY),--certificate '$(CERT)' --certificate-key '$(CERT_KEY)')

# These start under Secure Boot, with Debian's kernel: into out-debian/.
iso disk netboot: $(if $(KERNEL),image,signed) ## forms for Secure Boot: out-debian/lifeboat.iso, .img, netboot/; EXTRA=x.cpio FULL=1 MICROCODE=0
	@KERNEL=$(or $(KERNEL),debian) $(IMAGE) forms $@

run: image ## boot it in QEMU: by PXE, with a broken server's disks, console here, SSH on port 2222
	@$(IMAGE) run

# Of both flavours the same is asked, and ours takes longer to build than all of this: it is tested where it is in the cache. test-all builds it.
test: builder ## what CI runs: check, and the VM tests that touch each promise; Debian's kernel where ours is not in the cache, or KERNEL=custom
	@kernel=$(or $(KERNEL),$$($(IMAGE) kernel --kept)); $(MAKE) KERNEL="$$kernel" sample

sample: peers check $(IMAGES) # of an image whose kernel is said
	@$(VM_TEST) --jobs $(JOBS) --shard $(SHARD) --tally $(UNITS)

test-all: peers check $(IMAGES) ## every VM test, and as root interop and a fifth of attack; goes on where it was interrupted; SHARD=I/N for a part
	@case '$(SHARD)' in 1/*) if [ "$$(id -u)" = 0 ]; then $(MAKE) interop && $(MAKE) attack ATTACK=part; else echo 'SKIPPED: make interop and make attack, which are for root'; fi;; esac
	@$(VM_TEST) --all --jobs $(JOBS) --shard $(SHARD) --tally $(UNITS)

lock: builder ## move the locks in image/ to what Debian's archive has now
	@$(IMAGE) lock

sizes: image ## what the image weighs, part by part
	@$(IMAGE) sizes

hardware: builder ## write docs/hardware.md: drivers and firmware of the image
	@$(IMAGE) hardware

bench: image ## sizes, seconds and memory beside peers of Debian's packages; ROUNDS=N MEMORY=MiB, and as root PXE=1 LEAN=1
	@$(CARGO) run --locked --quiet -p image --bin bench -- --image $(OUT) --rounds $(ROUNDS) $(if $(MEMORY),--memory '$(MEMORY)') $(if $(PXE)$(LEAN),--pxe) $(if $(LEAN),--lean)

bench-tools: image ## lsblk, blkid and fdisk beside util-linux's, on 4, 100 and 1000 devices; ROUNDS=N
	@$(CARGO) run --locked --quiet -p image --bin bench-tools -- --image $(OUT) --rounds $(ROUNDS)

fuzz: patched ## hostile bytes at every parser for FUZZ_SECONDS
	@cd fuzz && $(CARGO) run --locked --release -- --seconds $(FUZZ_SECONDS)

repro: patched ## build image and every form twice, in different places: the same bytes; KERNEL=debian is quicker by the kernel; AGAINST=DIR builds once
	@image/repro

# What a person could not make again stays: inputs that broke a parser (fuzz/crashes), and those that reached something new.
clean: ## remove what was built here, all of out/ too (identity.cpio, key); the cache stays (~/.cache/lifeboat, or CACHE)
	rm -rf out out-debian target .patched .bench .rust fuzz/target init/sshd/patches/fetch/target

identity: builder ## a host key for the next boot: NAMES=db1.example.com,192.0.2.1 [CA=key] [KEYS=file]
	@$(IMAGE) identity --names '$(NAMES)' $(if $(CA),--authority '$(CA)') $(if $(KEYS),--keys '$(KEYS)')

serve: image ## a netboot server on a wire: IFACE=eth0 [RANGE=FIRST,LAST] [KEY=id.pub] [APPEND=] [MACHINES=DIR] [HTTP=80] [SECURE_BOOT=1]
	@$(IMAGE) serve --interface '$(IFACE)' $(if $(RANGE),--range '$(RANGE)') $(if $(HTTP),--port '$(HTTP)') $(if $(KEY),--key '$(KEY)') $(if $(APPEND),--append '$(APPEND)') $(if $(MACHINES),--machines '$(MACHINES)') $(if $(SECURE_BOOT),--secure-boot)

sbom: peers image ## write out/lifeboat.spdx.json: what the image is made of, with licences and sources
	@$(IMAGE) sbom

sign: builder ## sign out/ and out-debian/: KEY=~/.ssh/id_ed25519 (SHA256SUMS), CERT=cert.pem CERT_KEY=key.pem [CHAIN=] (for iPXE)
	@$(IMAGE) sign $(if $(KEY),--key '$(KEY)') $(if $(CERT)$(CERT_KEY),--certificate '$(CERT)' --certificate-key '$(CERT_KEY)') $(if $(CHAIN),--chain '$(CHAIN)')

# What was typed behind `make`, and nothing of the environment: a container has a HOSTNAME of its own, and DNS or IP mean anything there.
typed = $(if $(findstring command line,$(origin $(1))),$($(1)))
params: builder ## words for a boot: IP=192.0.2.5/24 GATEWAY=192.0.2.1 [NIC=MAC VLAN=5 DNS= HOSTNAME= CONSOLE= KEYS=file WORDS= LINES=1]
	@$(IMAGE) params --ip '$(call typed,IP)' --gateway '$(call typed,GATEWAY)' --nic '$(call typed,NIC)' --vlan '$(call typed,VLAN)' \
		--dns '$(call typed,DNS)' --hostname '$(call typed,HOSTNAME)' --console '$(call typed,CONSOLE)' --words '$(call typed,WORDS)' \
		$(if $(call typed,KEYS),--keys '$(call typed,KEYS)') $(if $(call typed,LINES),--lines)

bench-ssh: image peers .bench/peers/packages ## our sshd beside OpenSSH's, on loopback (as root) and in a VM
	PEERS=$$($(IMAGE) tools) PATH=$(CURDIR)/.bench/peers/usr/bin:$$PATH LD_LIBRARY_PATH=$(CURDIR)/.bench/peers/usr/lib/x86_64-linux-gnu $(CARGO) bench --locked --profile image --package sshd --bench openssh
	@$(CARGO) run --locked --quiet -p image --bin bench-ssh -- --image $(OUT)

bench-net: peers ## from the cable to the address, beside systemd-networkd, dhcpcd and udhcpc, as root; ROUNDS=N
	PEERS=$$($(IMAGE) tools) $(CARGO) bench --locked --profile image --package netd --bench clients

.bench/peers/done: .bench/peers/packages
	@image/setup interop
	@python3 -m venv .bench/peers/venv && .bench/peers/venv/bin/pip install --quiet paramiko ansible-core ssh-audit
	@touch $@

# In an environment of its own: its packages and Ansible's need not agree.
.bench/peers/ironic/done: .bench/peers/packages
	@image/setup interop
	@python3 -m venv .bench/peers/ironic && .bench/peers/ironic/bin/pip install --quiet ironic
	@touch $@

.bench/peers/packages: # other clients than OpenSSH's, from the host's own sources
	@rm -rf .bench/peers && mkdir -p .bench/peers && cd .bench/peers && apt-get --quiet --quiet download putty-tools dropbear-bin libtomcrypt1 libtommath1 rsync libpopt0 && for package in *.deb; do dpkg-deb --extract "$$package" .; done
	@touch $@

interop: peers .bench/peers/done .bench/peers/ironic/done .bench/peers/packages ## sshd with other clients, ssh-audit, Ironic, and OpenSSH's own regression tests, as root: ten minutes
	PEERS=$$($(IMAGE) tools) SFTP_SERVER=$$($(IMAGE) tools)/sftp-server PATH=$(CURDIR)/.bench/peers/venv/bin:$(CURDIR)/.bench/peers/usr/bin:$$PATH LD_LIBRARY_PATH=$(CURDIR)/.bench/peers/usr/lib/x86_64-linux-gnu INTEROP=1 $(CARGO) test --locked --package sshd --test interop 2>&1 | tee -a $(UNITS)
	PATH=$$PATH:$(CURDIR)/.bench/peers/ironic/bin INTEROP=1 $(CARGO) test --locked --package sshd --test ironic ironic_rescues 2>&1 | tee -a $(UNITS)
	PEERS=$$($(IMAGE) tools) INTEROP=1 $(CARGO) test --locked --package sshd --test regress 2>&1 | tee -a $(UNITS)

attack: patched ## the whole attack campaign against sshd, on loopback, as root, with nothing else running: ten minutes; ATTACK=part for a fifth, untimed
	@mkdir -p target
	ATTACK=$(ATTACK) $(CARGO) test --locked --profile image --package sshd --test attack -- --nocapture --test-threads 1 2>&1 | tee -a $(UNITS)
