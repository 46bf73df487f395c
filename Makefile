# Everything here works on a machine that has only Python 3.11 or later, pip and make: the first target that is run sets up
# .venv from uv.lock, later ones find it ready.

UV_VERSION := 0.13.9
VENV := .venv
SYNCED := $(VENV)/.synced
BIN := $(VENV)/bin

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# .venv is the project's own, whatever environment is active where make was called.
unexport VIRTUAL_ENV
unexport UV_PROJECT_ENVIRONMENT
export UV_PYTHON_DOWNLOADS := never
# Compiled once here, not at every start where PYTHONDONTWRITEBYTECODE is set.
export UV_COMPILE_BYTECODE := 1

SOURCES := src tests migrations release $(wildcard benchmarks contract)

.DEFAULT_GOAL := help
.PHONY: help setup demo test chromium node pictures contract check fix release audit fuzz versions bench chaos

help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(SYNCED) ## set up .venv; every other target does it by itself

demo: $(SYNCED) ## show the gateway at work, end to end
	@$(BIN)/covergate demo

test: $(SYNCED) chromium node ## run the whole test suite
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder

# The console's tests drive Debian's Chromium, its headless shell (which takes half of the time) or the whole browser; where the
# first is missing and can be had it is installed; if there is neither, they say that they are left out.
chromium:
	@command -v chromium-headless-shell >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null && echo "Installing chromium-headless-shell ..." && \
		apt-get update --quiet=2 && DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends chromium-headless-shell >/dev/null; \
	} || command -v chromium >/dev/null || \
		echo "CHROMIUM IS MISSING: the console's pages are not tested. Install it: apt-get install chromium-headless-shell" >&2

# The guide for partners has a program in Node, which a test runs.
node:
	@command -v node >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null && echo "Installing nodejs ..." && \
		apt-get update --quiet=2 && DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends nodejs >/dev/null; \
	} || echo "NODE IS MISSING: the guide's program in Node is not run. Install it: apt-get install nodejs" >&2

pictures: $(SYNCED) chromium ## take the pictures of the console among the documents
	@PICTURES=1 $(BIN)/pytest tests/console

contract: $(SYNCED) ## lint the OpenAPI document, make clients of it and have them verify a patient
	@$(BIN)/python -m contract

check: $(SYNCED) ## format, lint, types, import rules
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fix: $(SYNCED) ## format, and mend what the linter can mend
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/ruff check --fix $(SOURCES)

release: $(SYNCED) ## build wheel and sdist into dist/, check them, install the wheel and try it
	@$(BIN)/python -m release

audit: $(SYNCED) ## look every locked package up among the known vulnerabilities; asks a server on the internet
	@$(BIN)/uv export --quiet --locked --no-dev --no-emit-project --output-file $(VENV)/locked.txt
	@$(BIN)/uv run --quiet --isolated --locked --only-group audit pip-audit --disable-pip --require-hashes -r $(VENV)/locked.txt

fuzz: $(SYNCED) ## for an hour: every parser by hypothesis, every answer beside every other plan, and the running API against its own document by schemathesis
	@FUZZ_TIMES=50 $(BIN)/pytest -n 2 -m hypothesis
	@FUZZ_TIMES=50 $(BIN)/pytest -n 2 tests/corpus
	@$(BIN)/python -m tests.fuzz

versions: $(SYNCED) ## run the tests on every promised Python and the oldest promised PostgreSQL that the machine has
	@$(BIN)/python -m release.versions

bench: $(SYNCED) ## measure the gateway against its floors and goals; writes docs/performance.md
	@$(BIN)/python -m benchmarks --write

chaos: $(SYNCED) ## bring every fault upon a running gateway, balance the books; writes docs/reliability.md
	@$(BIN)/python -m tests.chaos --write

$(SYNCED): pyproject.toml uv.lock | $(BIN)/uv
	@echo "Installing what uv.lock names into $(VENV) ..."
	@$(BIN)/uv sync --locked --quiet
	@touch $@

# Debian's python3 without python3-venv lacks ensurepip; then the pip that is there puts uv into the environment.
$(BIN)/uv:
	@test -n "$(PYTHON)" || { echo "covergate needs Python 3.11 or later; name one with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Making $(VENV) with $(PYTHON) ..."
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
		$(PYTHON) -m venv --clear $(VENV) && $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check uv==$(UV_VERSION); \
	else \
		echo "$(PYTHON) has neither ensurepip nor pip: install one (on Debian: apt install python3-venv)" >&2; exit 1; \
	fi
