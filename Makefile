# Every target does its own set-up: a virtual environment from the lock files, made once and again when they change.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Arguments for pytest: make test ARGS='-k word'
ARGS ?=
# How many scenarios make chaos plays of each kind, and from which seed
SIMULATED ?= 500
REAL ?= 25
SEED ?= 0
# How many servers make bench-fleet exports, which sizes make bench-scale, and further options of the benchmarks
N ?= 200
SIZES ?= 100,500,2000
BENCH ?=
MINUTES ?= 10
# How many slots make retention-year plays, two to a month
SLOTS ?= 24
PY := .venv/bin/python
BOOTSTRAP = python=$$(PYTHON="$(PYTHON)" sh tools/find-python) && "$$python" tools/bootstrap.py

.PHONY: help demo up down cluster cluster-down test chaos lint format lock schemas clean set-up set-up-dev bench-fleet bench-scale bench-wait bench-grid bench-download bench-proof bench-convert bench-page bench-retention bench-charts bench-docs page ui-test pictures fuzz retention-year

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: set-up ## Export six virtual servers of the sandbox through Airflow, show the table, stop everything
	@$(PY) -m tools.demo demo

up: set-up ## Start the sandbox and Airflow and leave them running
	@$(PY) -m tools.demo up

down: set-up ## Stop what `make up` started
	@$(PY) -m tools.demo down

cluster: set-up-dev ## Start PostgreSQL, Redis, two schedulers, triggerers and Celery workers with the sandbox, and leave them running
	@$(PY) tools/system_packages.py postgresql redis-server
	@$(PY) -m tools.cluster_stack up

cluster-down: set-up-dev ## Stop what `make cluster` started
	@$(PY) -m tools.cluster_stack down

test: set-up-dev ## Run the whole test suite (ARGS goes to pytest)
	@$(PY) tools/system_packages.py
	@$(PY) -m pytest -n 3 $(ARGS)

ui-test: set-up-dev ## Look at the pages with a real browser, play the whole story there, and build the page's file again
	@$(PY) tools/system_packages.py
	@$(PY) -m pytest tests/e2e/test_ui.py tests/e2e/test_page.py tests/repo/test_page_bundle.py $(ARGS)
	@UI_STORY=1 $(PY) -m pytest tests/e2e/test_story.py $(ARGS)

pictures: set-up-dev ## Take the pictures of docs/page.md again
	@$(PY) tools/system_packages.py
	@UI_STORY=1 UI_PICTURES=docs/images $(PY) -m pytest tests/e2e/test_story.py $(ARGS)

fuzz: set-up-dev ## Give damaged images to every parser for MINUTES, from SEED on
	@$(PY) tools/system_packages.py
	@$(PY) -m tests.images.fuzz --minutes $(MINUTES) --seed $(SEED)

retention-year: set-up-dev ## Play a year of SLOTS slots through Airflow, with retention while they go on
	@$(PY) tools/system_packages.py
	@RETENTION_YEAR=$(SLOTS) $(PY) -m pytest tests/e2e/test_retention_year.py -s $(ARGS)

page: ## Build the page in Airflow again from its sources (needs Node)
	@cd include/sealift/provider/ui/web && npm ci --ignore-scripts && npm run check && npm test && npm run build && rm -rf node_modules

chaos: set-up-dev ## Break everything on the way, 500 times on simulated time and 25 times with real processes
	@$(PY) tools/system_packages.py
	@$(PY) -m tests.chaos --simulated $(SIMULATED) --real $(REAL) --seed $(SEED) --json .state/chaos.json

bench-fleet: set-up-dev ## Export N servers by Sealift, by plain Airflow and by IBM's procedure (BENCH: options)
	@$(PY) tools/system_packages.py
	@$(PY) -m benchmarks.fleet --servers $(N) $(BENCH)

bench-download: set-up-dev ## Download 2 and 10 GiB by Sealift and by what people use, each with its SHA-256
	@$(PY) -m benchmarks.download $(BENCH)

bench-proof: set-up-dev ## Measure what proofs of 100 GB and 2 TB read, and what reading every byte costs
	@$(PY) -m benchmarks.proof $(BENCH)

bench-convert: set-up-dev ## Convert 1 and 10 GiB from bucket to bucket, by Sealift and by qemu-img
	@$(PY) tools/system_packages.py
	@$(PY) -m benchmarks.convert $(BENCH)

bench-scale: set-up-dev ## Measure what one server costs among each of SIZES
	@$(PY) tools/system_packages.py
	@$(PY) -m benchmarks.scale --sizes $(SIZES) $(BENCH)

bench-wait: set-up-dev ## Measure what 500 waiting servers and 5,000 triggers cost
	@$(PY) tools/system_packages.py
	@$(PY) -m benchmarks.wait $(BENCH)

bench-grid: set-up-dev ## Measure how soon Airflow's page of a wave shows
	@$(PY) tools/system_packages.py
	@$(PY) -m benchmarks.grid $(BENCH)

bench-page: set-up-dev ## Measure the page's API over 5,000 servers in 52 slots
	@$(PY) -m benchmarks.page $(BENCH)

bench-retention: set-up-dev ## Measure what deciding over 5,000 servers with 60 exports each costs
	@$(PY) -m benchmarks.retention $(BENCH)

bench-charts: set-up-dev ## Draw the charts of docs/performance.md from the results
	@$(PY) -m benchmarks.charts

bench-docs: bench-charts ## Write the results into docs/performance.md
	@$(PY) -m benchmarks.docs

lint: set-up-dev ## Check style, types and the borders between the rooms
	@$(PY) -m tools.lint

format: set-up-dev ## Put the code into the agreed shape
	@.venv/bin/ruff check --fix-only --quiet .
	@.venv/bin/ruff format .

lock: ## Resolve requirements.txt and requirements-dev.txt into the lock files again
	@$(BOOTSTRAP) lock

schemas: set-up ## Write the JSON Schemas under docs/ again
	@$(PY) -m sealift.exports.schemas docs/schemas

clean: ## Stop everything and remove what these targets made
	@if [ -x $(PY) ] && [ -d .state ]; then $(PY) -m tools.demo down; $(PY) -m tools.cluster_stack down; fi
	@rm -rf .venv .tools .state .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

set-up:
	@$(BOOTSTRAP) run

set-up-dev:
	@$(BOOTSTRAP) dev
