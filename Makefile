# Needs make and Python 3.11 or newer; everything else is installed into $(VENV).

PYTHON ?= python3
VENV ?= .venv
SHOP ?=
ARGS ?=
# Many tests wait for servers, so that two processors are busy only with more tests than that.
JOBS ?= 4

BIN := $(VENV)/bin
READY := $(VENV)/.installed
BENCH_READY := $(VENV)/.installed-bench
CHAOS_READY := $(VENV)/.installed-chaos
DOCS_VENV := $(VENV)-docs
DOCS_READY := $(DOCS_VENV)/.installed
ALL_TESTS = -m pytest -n $(JOBS) --dist worksteal --ignore=tests/typing $(ARGS)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The tests start hundreds of Python processes, each of which would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install test test-quick lint format demo demo-check chaos docs screenshots bench bench-instructions bench-page bench-peers bench-versions build clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "Variables: PYTHON=$(PYTHON)  VENV=$(VENV)  SHOP=django|flask|fastapi  JOBS=$(JOBS) (tests at a time)  COVERAGE=1  ARGS=... (for pytest)"

install: $(READY) ## Create the virtual environment with all development dependencies

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "$(PYTHON) is not Python 3.11 or newer. Select another one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
	  { echo "$(PYTHON) cannot create virtual environments. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Installing the dependencies of tests and demo into $(VENV). This takes some minutes, once."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

$(CHAOS_READY): $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[chaos]'
	@touch $@

# Apart from the tests, because servers reload by watchdog where it is installed.
$(DOCS_READY): pyproject.toml
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install --quiet --editable '.[docs]'
	@touch $@

$(BENCH_READY): $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

test: $(READY) ## Run all tests (COVERAGE=1: and check the branch coverage)
ifdef COVERAGE
	$(BIN)/coverage erase
	$(BIN)/coverage run $(ALL_TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
	$(BIN)/coverage report --include='core/*' --fail-under=100
else
	$(BIN)/python $(ALL_TESTS)
endif

test-quick: $(READY) ## Run the tests of core and adapters that start no process
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not processes' tests/core tests/adapters $(ARGS)

lint: $(READY) ## Check style, format, types (also of users' programs), layers and prose
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/typing
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_prose.py

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(READY) ## Start the example shop (SHOP=django, flask or fastapi)
	$(BIN)/python example_projects/demo.py --shop $(or $(SHOP),django) $(ARGS)

demo-check: $(READY) ## Visit the example shops without a browser (all three, or SHOP=...)
	@set -e; for shop in $(or $(SHOP),django flask fastapi); do \
	  echo "== $$shop"; $(BIN)/python example_projects/demo.py --shop $$shop --check; \
	done

chaos: $(CHAOS_READY) ## Inject faults, kill workers and fuzz for minutes, and account for every record (ARGS="--only kill")
	$(BIN)/python -m tests.chaos.run $(ARGS)

docs: $(DOCS_READY) ## Build the documentation site into site/ and check its links
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict --quiet

screenshots: $(READY) ## Create the screenshots of the inspector in docs/images (needs Chromium)
	$(BIN)/python scripts/screenshots.py

bench: $(BENCH_READY) ## Measure the cost of a request and of delivery (ARGS="requests", growth, steps, stores or pending)
	$(BIN)/python -m benchmarks.run $(ARGS)

bench-instructions: $(READY) ## Count the instructions of a request (needs valgrind)
	$(BIN)/python -m benchmarks.instructions $(ARGS)

bench-peers: $(BENCH_READY) ## Measure three other libraries at the same tasks
	$(BIN)/python -m benchmarks.peers $(ARGS)

bench-versions: $(READY) ## Measure requests on other interpreters (PYTHONS="python3.13 python3.14")
	$(BIN)/python -m benchmarks.versions $(or $(PYTHONS),$(PYTHON)) $(ARGS)

bench-page: ## Measure everything, and put the figures into docs/performance.md
	$(MAKE) bench bench-peers bench-instructions ARGS=--page

build: $(READY) ## Build wheel and sdist into dist/ and check their contents
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python scripts/check_dist.py dist

clean: ## Remove the virtual environment and all generated files
	rm -rf $(VENV) $(DOCS_VENV) build dist site htmlcov .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
