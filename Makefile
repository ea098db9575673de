# Every target installs what it needs first. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
APT := $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get
# What the tests run against: Wireshark's dissectors as a second opinion, and real NAT in namespaces.
TEST_PACKAGES := tshark tcpdump conntrack iptables nftables iproute2 iputils-ping procps
TEST_TOOLS := tshark tcpdump conntrack iptables nft ip ping pgrep
SAMPLE := sample_pcaps/iptables

.PHONY: help demo test lint format bench golden shell-completion clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(VENV)/bin/python:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(APT) update -qq && $(APT) install -y -qq python3-venv; }
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

# Installed once per pyproject.toml; the first import compiles the decoder (numba), later ones load it from its cache.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@echo 'compiling the packet decoder (once, about half a minute)…'
	@$(BIN)/hopline trace $(SAMPLE) --limit 1 >/dev/null
	@touch $@

$(VENV)/.developed: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

demo: $(VENV)/.installed ## trace a sample bundle and draw one connection's path
	$(BIN)/hopline trace $(SAMPLE) --limit 9
	$(BIN)/hopline show $(SAMPLE) c18

test: $(VENV)/.developed ## run every test that can run on this machine
	@for tool in $(TEST_TOOLS); do command -v $$tool >/dev/null || { $(APT) update -qq \
	  && $(APT) install -y -qq --no-install-recommends $(TEST_PACKAGES); break; }; done
	$(BIN)/python -m pytest $(TESTS)

lint: $(VENV)/.developed ## style and strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.developed ## rewrite the code in the project's style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.developed ## packets/s beside tshark and dpkt on the same file
	@command -v tshark >/dev/null || { $(APT) update -qq && $(APT) install -y -qq --no-install-recommends tshark; }
	$(BIN)/python -m bench $(BENCH)

golden: $(VENV)/.developed ## rewrite the golden outputs after looking at why they changed
	$(BIN)/python -m pytest -q tests/test_golden.py --update-golden

shell-completion: $(VENV)/.installed ## install completion for your shell
	$(BIN)/hopline --install-completion

clean: ## remove everything that make made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
