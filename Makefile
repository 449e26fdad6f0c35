# What a user and a developer type. Everything runs in .venv, which is made from requirements.lock once.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Nothing of this project phones home, whatever the tools' own defaults are.
export DO_NOT_TRACK := 1
export DBT_SEND_ANONYMOUS_USAGE_STATS := false
export GX_ANALYTICS_ENABLED := false
export DAGSTER_HOME := $(CURDIR)/.dagster
export PATH := $(CURDIR)/$(BIN):$(PATH)

# How the demo's events get to the archive: files, or kafka; with KAFKA=host:port through that Kafka instead of one that the demo starts.
SOURCE ?= files
ifeq ($(SOURCE),kafka)
export EVENT_ARCHIVE_CONFIG := $(CURDIR)/data/kafka/event_archive.yaml
export DAGSTER_HOME := $(CURDIR)/data/kafka/dagster
endif

.PHONY: help setup demo kafka rebuild test campaign planted-bugs check ui bench bench-large clean-demo lock

help: ## What there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): requirements.lock pyproject.toml
	@bash scripts/make_venv.sh $(VENV)
	@touch $@

setup: $(STAMP) ## Make .venv from the lock (done by itself when needed)

demo: $(STAMP) ## Two services' events into an archive, tables from them, proof, and where to look (SOURCE=kafka: through a broker)
	@python -m scripts.demo --source $(SOURCE) $(if $(KAFKA),--kafka $(KAFKA))

kafka: $(STAMP) ## The Kafka of `make demo SOURCE=kafka` again, until Ctrl-C
	@python -m scripts.demo_kafka

rebuild: $(STAMP) ## Compute every table again from the archive alone, check, publish
	@python -m orchestration.console rebuild

test: $(STAMP) ## All tests
	@python -m pytest -n auto --dist=worksteal

campaign: $(STAMP) ## Ingests under every fault, long; CAMPAIGN="--kills 500 --rows 1 2" for other parameters
	@python -m campaign --report docs/campaign.md $(CAMPAIGN)

planted-bugs: $(STAMP) ## Break our own code in one place at a time: a test must turn red; BUGS="--only gap" for some
	@python -m campaign.planted_bugs --report docs/planted-bugs.md $(BUGS)

check: $(STAMP) ## Lint, types, import rules, SQL style
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	cd dbt_project && sqlfluff lint models tests --disable-progress-bar

ui: $(STAMP) ## The Dagster UI, on loopback
	@bash scripts/ui.sh

bench: $(STAMP) ## Measure, side by side with what one would write by hand
	@python -m benchmarks.run

bench-large: $(STAMP) ## Compute the tables of 50 million events, and again after 1 % more
	@python -m benchmarks.run recompute-large

lock: ## Renew requirements.lock from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --quiet --upgrade -o requirements.lock

clean-demo: ## Remove the demo's data (the archive too)
	rm -rf data .dagster
