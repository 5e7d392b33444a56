# irsad: `make demo` and `make test` do all their own set-up; `make help` lists the rest.

CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/irsad
CARGO ?= cargo
ARCH ?= $(shell uname -m)
TARGET_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

.PHONY: help demo test vm-test check packages cloud-init kubernetes bench fuzz clean

help:
	@echo 'make demo        the main job on a real kubeadm manifest, folders instead of AWS (Rust and a C compiler)'
	@echo 'make test        every test; fetches what they need into $(CACHE)'
	@echo 'make vm-test     the package on whole kubeadm nodes; as root (then vm-tests/cluster brings one up by hand)'
	@echo 'make check       fmt, clippy, doc, deny, tidy, workflows'
	@echo 'make packages    .deb, .rpm and SBOM in $(CACHE)/packages, and all that must hold of them (first time 10 minutes)'
	@echo 'make cloud-init  the user-data of cloud-init/, by cloud-init and kubeadm themselves'
	@echo 'make kubernetes  kube-apiserver, kubectl and etcd for the tests, built from pinned Go modules'
	@echo 'make fuzz        a minute of fuzzing each for what reads files and requests of others (FUZZ_SECONDS=60)'
	@echo 'make bench       the figures of docs/figures.md, as tables (release build, then three times 10 idle minutes)'

demo:
	$(CARGO) build --locked
	@examples/quickstart/demo $(TARGET_DIR)/debug/irsad

test:
	tests/run $(CACHE)

vm-test:
	IRSAD_CACHE=$(CACHE) vm-tests/run

check:
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items
	tests/deny $(CACHE)
	tests/workflows $(CACHE)
	$(CARGO) test --locked --test tidy

packages:
	packaging/setup $(CACHE)
	packaging/build $(ARCH) $(CACHE)
	packaging/pack $(ARCH) $(CACHE)/target-release/$(ARCH)-unknown-linux-gnu/release/irsad $(CACHE)/packages
	packaging/check $(ARCH) $(CACHE)

cloud-init:
	$(CARGO) build --locked
	tests/setup $(CACHE)
	set -a && . $(CACHE)/environment && cloud-init/check $(TARGET_DIR)/debug/irsad $(CACHE)

kubernetes:
	tests/kubernetes/build $(CACHE)/kubernetes

bench:
	tests/setup $(CACHE)
	set -a && . $(CACHE)/environment && $(CARGO) bench --locked --bench figures --bench fleet
	vm-tests/setup $(CACHE) && IRSAD_CACHE=$(CACHE) vm-tests/figures/measure

fuzz:
	tests/fuzz $(CACHE)

clean:
	$(CARGO) clean
