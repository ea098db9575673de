# Every target installs what it needs first. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
APT := $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get
# What the tests run against: Wireshark's dissectors as a second opinion, real NAT in namespaces, a real browser.
TEST_PACKAGES := tshark tcpdump conntrack iptables ipset nftables iproute2 iputils-ping procps nginx redis-server mariadb-server postgresql \
  rabbitmq-server dnsmasq-base openssl python3-bpfcc wrk \
  chromium chromium-driver fonts-dejavu-core poppler-utils
TEST_TOOLS := tshark tcpdump conntrack iptables ipset nft ip ping pgrep nginx redis-server mariadbd psql rabbitmq-server dnsmasq openssl wrk chromium chromedriver pdftotext
SAMPLE := sample_pcaps/iptables
IMAGE ?= hopline
IMAGE_BUILDER ?= $(if $(shell command -v podman),podman,docker)
IMAGE_STORE ?= /var/tmp/hopline-image
# Requests are read by Wireshark's dissectors; without them, connections are.
WITH_TSHARK = command -v tshark >/dev/null || { $(APT) update -qq && $(APT) install -y -qq --no-install-recommends tshark; } \
  || echo 'tshark could not be installed: connections are traced, requests in them are not'

# Tests start hundreds of processes; without bytecode, each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

# Half as many again as processors: about half of what tests take is waiting, for servers, agents and recordings.
WORKERS := $(shell n=$$(nproc); [ $$n -gt 4 ] && echo 6 || echo $$(((3 * n + 1) / 2)))
OR_NONE = [ $$? = 5 ]  # pytest: there were no tests of that kind

.PHONY: help demo test test-tools vm-test vm-bench live lint format bench golden manifest wheel image image-test shell-completion clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(VENV)/bin/python:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(APT) update -qq && $(APT) install -y -qq python3-venv; }
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

# Installed once per pyproject.toml; the first run compiles the decoder (numba), later ones load what it compiled.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@$(WITH_TSHARK)
	@$(BIN)/hopline trace $(SAMPLE) --limit 1 >/dev/null
	@$(BIN)/python -m probes.live.ready
	@touch $@

# --no-compile: Python keeps bytecode of what tests import, a small part of what is installed, when they do.
$(VENV)/.developed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --no-compile --editable . --group dev
	@touch $@

demo: $(VENV)/.installed ## trace a sample bundle and tell one request's path
	$(BIN)/hopline trace $(SAMPLE) --limit 12
	$(BIN)/hopline explain $(SAMPLE) r6 --no-packets

live: $(VENV)/.installed ## install what recording on this machine needs, and say what is still missing
	@$(PYTHON) -c 'import bcc' 2>/dev/null || { $(APT) update -qq && $(APT) install -y -qq --no-install-recommends python3-bpfcc; }
	$(BIN)/hopline doctor

test: $(VENV)/.compiled test-tools ## run every test that can run on this machine
	$(BIN)/python -m pytest -m 'not alone' --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS) || $(OR_NONE)
	$(BIN)/python -m pytest -m alone $(TESTS) || $(OR_NONE)

test-tools: $(VENV)/bin/python
	@for tool in $(TEST_TOOLS); do command -v $$tool >/dev/null || { $(APT) update -qq \
	  && $(APT) install -y -qq --no-install-recommends $(TEST_PACKAGES); break; }; done

# Here, once, and not in each of the processes that test.
$(VENV)/.compiled: $(VENV)/.developed $(shell find probes tracer analysis/synth -name '*.py')
	@$(BIN)/python deploy/wheel.py
	@touch $@

VM_TOOLS := qemu-system-x86_64 busybox kmod ipvsadm ipset conntrack iptables nft nginx tshark wrk
# The guest would compile for minutes what it needs for seconds: numba's functions run there as they are written.
VM_PYTEST := env NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -q -p no:cacheprovider tests/vm/guest_*.py

vm-test: $(VENV)/.developed ## kprobes, IPVS and lossy links on Debian's kernel under qemu: without kernel headers, with them, locked down
	@for tool in $(VM_TOOLS); do command -v $$tool >/dev/null || { $(APT) update -qq && $(APT) install -y -qq --no-install-recommends \
	  $(TEST_PACKAGES) qemu-system-x86 busybox-static kmod ipvsadm ipset; break; }; done
	$(BIN)/python tests/vm/boot.py --no-headers --timeout 5400 -- $(VM_PYTEST) $(TESTS)
	$(BIN)/python tests/vm/boot.py -- $(VM_PYTEST) -k headers $(TESTS)
	$(BIN)/python tests/vm/boot.py --no-headers --append lockdown=confidentiality -- $(VM_PYTEST) -k lockdown $(TESTS)

# IPVS with the other modes, in one machine and one run, so that they can be compared (docs/kube-proxy-modes.md).
# An emulated processor has no caches that emptying could empty.
VM_BENCH ?= --services 1,10,100,1000,5000,10000 --connections 150 --rounds 3 --caches warm
vm-bench: $(VENV)/.developed ## all of kube-proxy's modes, IPVS too, on Debian's kernel under qemu, in some 20 to 40 minutes; VM_BENCH: options of `hopline bench proxy`
	@for tool in qemu-system-x86_64 busybox kmod ipvsadm ipset iptables nft; do command -v $$tool >/dev/null || { $(APT) update -qq \
	  && $(APT) install -y -qq --no-install-recommends qemu-system-x86 busybox-static kmod ipvsadm ipset iptables nftables python3-bpfcc; break; }; done
	$(BIN)/python tests/vm/boot.py --no-headers --timeout 7200 -- env NUMBA_DISABLE_JIT=1 $(BIN)/hopline bench proxy $(VM_BENCH)

lint: $(VENV)/.developed ## style and strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.developed ## rewrite the code in the project's style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/.benched: $(VENV)/.developed
	$(BIN)/python -m pip install --quiet --group bench
	@command -v tcptrace >/dev/null || $(APT) install -y -qq --no-install-recommends tcptrace || echo 'tcptrace could not be installed: left out'
	@touch $@

bench: $(VENV)/.benched ## how fast, beside others (docs/performance.md); BENCH=reading, join, trace, requests or growth: one part; drain, overhead, ledger: recording
	@$(WITH_TSHARK)
	$(BIN)/python -m bench $(BENCH)

golden: $(VENV)/.developed test-tools ## rewrite the golden outputs after looking at why they changed
	$(BIN)/python -m pytest -q tests/test_golden.py --update-golden

manifest: ## render deploy/hopline.yaml
	kubectl kustomize deploy/base > deploy/hopline.yaml

wheel: $(VENV)/.developed ## build dist/hopline-….whl with machine code inside, for this Python and kind of machine: nothing is compiled where it is installed
	@$(WITH_TSHARK)
	HATCH_BUILD_HOOKS_ENABLE=1 $(BIN)/python -m hatchling build --target wheel

image: ## build the container image (IMAGE, IMAGE_BUILDER, IMAGE_FLAGS)
	$(IMAGE_BUILDER) build --file deploy/Containerfile --tag $(IMAGE):$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) $(IMAGE_FLAGS) .

image-test: $(VENV)/.developed ## build the image without a registry, start it as the manifests do, record with it (some minutes)
	@for tool in podman buildah crun debootstrap; do command -v $$tool >/dev/null || { $(APT) update -qq \
	  && $(APT) install -y -qq --no-install-recommends podman buildah crun debootstrap; break; }; done
	HOPLINE_TEST_IMAGE=$(IMAGE_STORE) $(BIN)/python -m pytest tests/image

shell-completion: $(VENV)/.installed ## install completion for your shell
	$(BIN)/hopline --install-completion

clean: ## remove everything that make made
	rm -rf $(VENV) dist probes/compiled .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
