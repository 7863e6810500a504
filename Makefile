# Every target does its own setup and can be repeated in any state; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
# Three keep two processor cores busy, since tests wait, too. Tests that share fixtures run in one process (see
# `tests/conftest.py`). Without reordering, the files with the longest tests do not come last.
TEST_PROCESSES ?= 3
PYTEST = $(BIN)/pytest -n $(TEST_PROCESSES) --dist loadgroup --no-loadscope-reorder \
	$(if $(ORDER),--order $(patsubst random,$(shell echo $$RANDOM),$(ORDER)))

# Compiled modules are kept between runs, and between the hundreds of processes of a test run, even where the shell says
# otherwise: compiling them again takes a third of the time of all tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup run prometheus test test-all chaos explore mutants check words bench sbom fmt docs lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## Install everything that tests and checks need
	@deploy/setup.sh dev

run: ## Start the gateway with simulated sellers, which cost nothing
	@deploy/setup.sh run
	@exec $(BIN)/image-gateway serve --sandbox

prometheus: ## Start a Prometheus on the gateway of `make run`, at port 9090
	@deploy/setup.sh prometheus
	@exec $(BIN)/prometheus --config.file=deploy/prometheus/local.yml --storage.tsdb.path=var/prometheus \
		--web.listen-address=127.0.0.1:9090 --enable-feature=exemplar-storage --log.level=warn

test: setup ## Run the tests in six minutes; ORDER=random shuffles them, ORDER=<seed> repeats that
	$(PYTEST) -p no:schemathesis -p no:faker $(ARGS)

test-all: setup ## Run all tests, with the long ones that `test` leaves out
	$(PYTEST) --all-tests $(ARGS)

chaos: setup ## Kill gateways and stores under load, then audit; JOBS=2000 KILLS=300 STORE=redis SEED=1 MUTANT=<bug>
	$(BIN)/python -m tests.chaos.program.chaos_command $(if $(JOBS),--jobs $(JOBS)) $(if $(KILLS),--kills $(KILLS)) \
		$(if $(STORE),--store $(STORE)) $(if $(SEED),--seed $(SEED)) $(if $(MUTANT),--mutant "$(MUTANT)")

explore: setup ## Explore RUNS runs of the engine in virtual time, or print the story of one SEED
	$(BIN)/python -m tests.explore $(if $(SEED),--seed $(SEED),--runs $(or $(RUNS),2000) --first $(or $(FIRST),0))

mutants: setup ## Let the explorer catch deliberate bugs of the engine, and print what caught each
	$(BIN)/python -m tests.explore.mutants

check: setup ## Check format, lint, types, names, layers and generated pages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy deploy/grafana
	$(BIN)/python docs/generate.py --check
	$(BIN)/python deploy/grafana/generate_dashboards.py --check
	$(BIN)/python docs/words.py --check
	$(BIN)/pytest -q tests/test_layers.py tests/test_repository.py

words: setup ## Count how plainly the code is named and written
	$(BIN)/python docs/words.py

bench: setup ## Measure requests, their calls, plans, commits, hostile bodies, large answers, audits, reports and kills
	@deploy/setup.sh bench
	$(BIN)/python -m bench.end_to_end
	$(BIN)/python -m bench.trips
	$(BIN)/python bench/routing_plans.py
	$(BIN)/python -m bench.store_commits
	$(BIN)/python -m bench.seller_client_throughput
	$(BIN)/python -m bench.dead_links
	$(BIN)/python -m bench.waiting_jobs
	$(BIN)/python -m bench.base64_answers
	$(BIN)/python -m bench.event_loop_stalls
	$(BIN)/python -m bench.audit_stalls
	$(BIN)/python -m bench.ledger_reports
	$(BIN)/python -m bench.reclaim_delay

sbom: setup ## Write the software bill of materials (CycloneDX) of the pinned packages to dist/sbom.cdx.json
	@mkdir -p dist
	.venv-sbom/bin/cyclonedx-py requirements deploy/requirements/runtime.txt --pyproject pyproject.toml \
		--output-reproducible --output-file dist/sbom.cdx.json

fmt: setup ## Format the code and apply automatic lint fixes
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

docs: setup ## Regenerate the generated pages and dashboards
	$(BIN)/python deploy/grafana/generate_dashboards.py
	$(BIN)/python docs/generate.py

lock: setup ## Update the pinned dependencies, with hashes and without URLs
	deploy/lock.sh

clean: ## Remove everything that setup and tests created
	rm -rf .venv .venv-runapi-old .venv-clients .venv-sbom dist tests/clients/node_programs/node_modules .venv.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
