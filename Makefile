# What a user does:       make demo | make unit | make test | make install | make install-socket
# Results:                make build -> target/pontoon, make plugin -> target/plugin, make bench -> target/bench.json

SHELL := /bin/bash
.DEFAULT_GOAL := help

CARGO   ?= cargo
TARGET  ?= $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
PREFIX  ?= /usr/local
LAB     := crates/testkit/lab

# the engines beside this distribution's own, and the tests that drive an engine
ENGINES      ?= trixie forky
ENGINE_TESTS ?= --test engine --test swarm
# the kernel with every feature, and the tests of Pontoon's own that run on it besides tests/kernels
KERNEL       ?= 7.3
GUEST_TESTS  ?= netns_linux contract
# what `make test` does while that guest occupies one processor: .ci/run fuzzes
BESIDE_GUEST ?=
# the table of test-kernels: all that matrix knows, or some
KERNELS      ?=
SUITES       ?=
BENCH        ?= $(CARGO) bench --locked --quiet --bench pontoon --
# all; or some of: verbs scale ports restart engine crowd traffic overlay peers
PARTS        ?=
FUZZ_SECONDS ?= 10

# the long runs of tests/crash
CRASH_KILLS     ?= 10000
CRASH_ENDPOINTS ?= 1000
CRASH_LIVES     ?= 100000
# which program they kill: the optimised one
OPTIMISED       := PONTOON_BINARY=$(CURDIR)/target/pontoon
CRASH           := $(OPTIMISED) $(CARGO) test --locked --test crash -- --nocapture --test-threads=1

export PREFIX DESTDIR FORCE PURGE

# Tests of engines wait more than they compute. cargo-nextest runs the tests of all binaries side by side; cargo test,
# where nextest is not installed, runs one binary after the other.
TEST_THREADS      ?= 6
RUST_TEST_THREADS ?= 4
export RUST_TEST_THREADS
ifneq ($(shell $(CARGO) nextest --version 2>/dev/null),)
RUN_TESTS := $(CARGO) nextest run --locked --test-threads=$(TEST_THREADS)
DOC_TESTS := $(CARGO) test --locked --workspace --doc
else
RUN_TESTS := $(CARGO) test --locked --no-fail-fast
DOC_TESTS := true
endif

# what needs neither root nor namespaces
UNIT_TESTS := --lib --bins --test wire --test replay --test verbs --test full_disk --test layers --test names --test style --test docs

.PHONY: help build plugin example install uninstall install-socket uninstall-socket deb tarball demo kernel unit test test-binaries test-guest test-kernels test-all test-engines crash soak bench redeploy lab fmt clippy \
        doc api deny fuzz fuzz-binaries fuzz-tools check-tools as-root clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# `make build`, then `sudo make install-socket`: root often has no cargo, and needs none
ifeq ($(shell command -v $(CARGO))$(wildcard target/pontoon),target/pontoon)
build:
	@echo "this user has no cargo: using the existing target/pontoon"
else
build: check-tools ## the static binary: target/pontoon
	RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --locked --release --bin pontoon --target $(TARGET)
	install -m 755 target/$(TARGET)/release/pontoon target/.pontoon.new
	mv target/.pontoon.new target/pontoon
endif

plugin: build ## the managed plugin for `docker plugin create`: target/plugin
	rm -rf target/.plugin.new
	mkdir -p target/.plugin.new/rootfs
	cp target/pontoon target/.plugin.new/rootfs/pontoon
	cp config.json target/.plugin.new/config.json
	rm -rf target/plugin
	mv target/.plugin.new target/plugin

example: check-tools ## the example driver of crates/libnetwork-plugin, static: target/bridge-example
	RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --locked --package libnetwork-plugin --example bridge --target $(TARGET)
	install -m 755 target/$(TARGET)/debug/examples/bridge target/bridge-example

install: plugin ## install or upgrade the managed plugin in the running Docker: pontoon:latest
	@plugin/setup.sh install

uninstall: ## remove the managed plugin
	@plugin/setup.sh uninstall

install-socket: build ## install binary and systemd units: pontoon (PREFIX, DESTDIR)
	@plugin/setup.sh install-socket

uninstall-socket: ## remove binary and units; PURGE=1 removes the state too
	@plugin/setup.sh uninstall-socket

deb: build ## a package for Debian and Ubuntu: target/pontoon_VERSION_ARCH.deb
	@plugin/package deb

tarball: build ## binary, units and docs for other hosts: target/pontoon-VERSION-ARCH.tar.gz
	@plugin/package tarball

demo: as-root plugin ## run an engine in its own namespaces with networks and containers
	@$(LAB) prepare
	@crates/testkit/demo

kernel: as-root ## the kernel that tests boot, user-mode Linux from Debian's source: 12 minutes once, then cached; UPDATE=1
	@crates/testkit/kernel/build $(KERNEL) $(if $(UPDATE),--update) >/dev/null

unit: ## run the tests that need no root, in seconds
	$(RUN_TESTS) --workspace $(UNIT_TESTS)

# Optimising the static binary occupies one processor for minutes; the others compile the tests meanwhile. The crash tests
# start Pontoon thousands of times, so they take the optimised one, as `make crash` does.
test: as-root lab kernel ## run all tests, with this distribution's engine
	@$(MAKE) --no-print-directory -j3 plugin example test-binaries
	$(OPTIMISED) $(RUN_TESTS) --workspace
	@.ci/flaky target/nextest/default/junit.xml
	$(DOC_TESTS)
	@$(MAKE) --no-print-directory -j2 test-guest $(BESIDE_GUEST)

test-binaries: check-tools
	$(RUN_TESTS) --no-run --workspace

test-guest: as-root kernel ## run GUEST_TESTS on that kernel
	crates/testkit/kernel/tests $(KERNEL) $(GUEST_TESTS)

test-kernels: as-root plugin lab ## run suites on the kernels that people have, and print a table; KERNELS, SUITES
	@PONTOON_SUITES='$(SUITES)' crates/testkit/kernel/matrix $(KERNELS)

test-all: as-root plugin example ## for a night: everything, with all engines, kernels and firewalls; tables at the end
	@KERNELS='$(KERNELS)' SUITES='$(SUITES)' crates/testkit/kernel/night

test-engines: as-root plugin example ## run the engine tests with every other engine of Debian
	$(LAB) prepare $(ENGINES)
	@for engine in $(ENGINES); do \
	    echo "== engine of $$engine"; \
	    PONTOON_ENGINE=$$engine $(RUN_TESTS) $(ENGINE_TESTS) || failed="$$failed $$engine"; \
	done; [ -z "$$failed" ] || { echo "failed with:$$failed" >&2; exit 1; }

crash: as-root build ## kill and break Pontoon at every point, at length: figures of docs/reliability.md
	CRASH_KILLS=$(CRASH_KILLS) CRASH_ENDPOINTS=$(CRASH_ENDPOINTS) $(CRASH) --skip soak

soak: as-root build ## run CRASH_LIVES containers with restarts of Pontoon: nothing may grow
	CRASH_LIVES=$(CRASH_LIVES) $(CRASH) soak

bench: as-root ## measure against the kernel and the built-in bridge, all or PARTS; target/bench.json
	@$(MAKE) --no-print-directory plugin lab >&2
	@$(BENCH) $(PARTS)

redeploy: as-root plugin lab ## replace all tasks of a service repeatedly, and compare with the engine's own overlay; REDEPLOY=ROUNDSxTASKS
	$(CARGO) test --locked --test swarm -- --ignored --nocapture beside_the_engines_own_overlay

lab: as-root ## prepare engine and images for the tests, from Debian's packages
	$(LAB) prepare

fmt: ## format the code
	$(CARGO) fmt --all

clippy: check-tools ## lint the code
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

doc: ## the documentation of the crates, without a warning: target/doc
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --exclude pontoon --no-deps

api: check-tools ## compare the public API of the crates with their api.txt; UPDATE=1 writes it
	.ci/public-api

deny: ## check licenses, duplicates and sources of the crates (deny.toml)
	.ci/deny

fuzz-binaries: fuzz-tools
	fuzz/run 0

fuzz: fuzz-tools ## fuzz decoders, state loader and request sequences, FUZZ_SECONDS each
	fuzz/run $(FUZZ_SECONDS)

fuzz-tools: check-tools
	@.ci/tools g++
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install --locked --quiet cargo-fuzz

# Cargo needs a linker, and a static binary the C library's archive.
check-tools:
	@.ci/tools

as-root:
	@[ "$$(id -u)" = 0 ] || { echo 'this needs root, for network namespaces: sudo env "PATH=$$PATH" make ...' >&2; exit 1; }

clean: ## remove all build results and the lab
	@[ ! -d target/lab ] || env -u PONTOON_LAB $(LAB) list | while read -r node _; do env -u PONTOON_LAB $(LAB) down "$$node"; done
	$(CARGO) clean
