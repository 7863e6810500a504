# Every target does its own set-up and may be repeated from any state; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
# Leave a core for the sandbox that each test process talks to.
TEST_PROCESSES ?= 2

.PHONY: help setup run test check words bench fmt docs lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## Install everything that tests and checks need
	@deploy/setup.sh dev

run: ## Start the gateway, buying from simulated sellers for no money, and say what to try
	@deploy/setup.sh run
	@exec $(BIN)/image-gateway serve --sandbox

test: setup ## Run all tests against real servers and real clients
	$(BIN)/pytest -n $(TEST_PROCESSES) $(ARGS)

check: setup ## Check format, lint, types, layers and generated pages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check
	$(BIN)/python docs/words.py --check
	$(BIN)/pytest -q tests/test_layers.py tests/test_repository.py

words: setup ## Count how plainly the code is named and written
	$(BIN)/python docs/words.py

bench: setup ## Measure what plans, commits and requests cost, and what hostile bodies can do
	$(BIN)/python bench/routing_plans.py
	$(BIN)/python -m bench.store_commits
	$(BIN)/python -m bench.seller_client
	$(BIN)/python -m bench.dead_links
	$(BIN)/python -m bench.waiting_jobs
	$(BIN)/python -m bench.hostile_bodies

fmt: setup ## Format the code and mend what lint can mend
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

docs: setup ## Write the generated pages anew
	$(BIN)/python docs/generate.py

lock: setup ## Pin the dependencies anew, with hashes and without addresses
	deploy/lock.sh

clean: ## Remove everything that set-up and tests made
	rm -rf .venv .venv-runapi-old .venv.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
