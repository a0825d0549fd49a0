# `make study` and `make test` set up all they need on a machine with Python 3.11+, make and git.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help study test test-studies test-ui test-faults test-distributed test-gpu check audit bench format ui stack screenshots lock clean

# What `make study` passes on; empty means "as the study file says".
STUDY ?= studies/breast_cancer.toml
N_TRIALS ?=
POPULATION ?=
SEED ?=
MAX_EPOCHS ?=
REPLICATES ?=
DATA ?=
TARGET ?=
RESUME ?=
ACCEPT_CHANGES ?=
PROMOTE ?=
ENGINE ?=
POPULATIONS ?=
ADDRESS ?=
CPUS_PER_POPULATION ?=
GPUS_PER_POPULATION ?=
export STUDY N_TRIALS POPULATION SEED MAX_EPOCHS REPLICATES DATA TARGET RESUME ACCEPT_CHANGES PROMOTE
export ENGINE POPULATIONS ADDRESS CPUS_PER_POPULATION GPUS_PER_POPULATION

ENV_MANAGER ?= local
PORT ?= 5000
PYTEST_ARGS ?=
BENCH_ARGS ?=
UPGRADE ?=
KEEP ?=

# The tracking URI must be absolute: `mlflow run` hands it to a program in another folder.
study ui: export MLFLOW_TRACKING_URI := $(or $(MLFLOW_TRACKING_URI),sqlite:///$(CURDIR)/mlflow.db)
export MLFLOW_DISABLE_TELEMETRY ?= true

VENV := .venv
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PATH := $(VIRTUAL_ENV)/bin:$(PATH)

# uv reads its own variable for the folders of wheels that pip was told of.
empty :=
comma := ,
ifneq ($(PIP_FIND_LINKS),)
export UV_FIND_LINKS ?= $(subst $(empty) $(empty),$(comma),$(strip $(PIP_FIND_LINKS)))
endif

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

# A stamp is written last, named after the lock's content and this folder: an install that was
# interrupted, a lock that changed, a folder that moved or an interpreter that vanished has none.
stamp = $(VENV)/$(1)-$(shell { pwd -P; cat $(2); } | cksum | tr ' ' '-')
STAMPS := $(foreach name,runtime develop peers ui server distributed,$(VENV)/$(name)-*)
$(shell test -x $(VENV)/bin/python || rm -f $(STAMPS))
RUNTIME := $(call stamp,runtime,requirements.lock)
DEVELOP := $(call stamp,develop,requirements.lock requirements-dev.lock)
PEERS := $(call stamp,peers,requirements.lock requirements-peers.lock)
SERVER := $(call stamp,server,requirements.lock requirements-server.lock)
DISTRIBUTED := $(call stamp,distributed,requirements.lock requirements-dev.lock requirements-server.lock requirements-ray.lock)
UI := $(call stamp,ui,requirements.lock requirements-dev.lock requirements-ui.lock)
PIP_INSTALL = $(VENV)/bin/python -m pip install --disable-pip-version-check --quiet

help: ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1|\2/p' Makefile | \
		while IFS='|' read -r name what; do printf '  make %-16s %s\n' "$$name" "$$what"; done

study: $(if $(filter uv,$(ENV_MANAGER)),$(DEVELOP),$(RUNTIME)) ## run a study: STUDY=studies/digits.toml N_TRIALS=50 SEED=1 ENV_MANAGER=uv ...
	@if [[ -z $$MLFLOW_EXPERIMENT_NAME$$MLFLOW_EXPERIMENT_ID ]]; then \
		MLFLOW_EXPERIMENT_NAME=$$(python -c "$$READ_NAME" "$$STUDY" 2>/dev/null || echo Default); \
		export MLFLOW_EXPERIMENT_NAME; \
	fi; \
	mlflow run . --env-manager $(ENV_MANAGER) -P study="$$STUDY" \
		-P n_trials="$$N_TRIALS" -P population="$$POPULATION" -P seed="$$SEED" \
		-P max_epochs="$$MAX_EPOCHS" -P replicates="$$REPLICATES" -P data="$$DATA" -P target="$$TARGET" \
		-P resume="$$RESUME" -P accept_changes="$$ACCEPT_CHANGES" -P promote="$$PROMOTE" \
		-P engine="$$ENGINE" -P populations="$$POPULATIONS" -P address="$$ADDRESS" \
		-P cpus_per_population="$$CPUS_PER_POPULATION" -P gpus_per_population="$$GPUS_PER_POPULATION"

study: export READ_NAME := import sys, tomllib; print(tomllib.load(open(sys.argv[1], "rb"))["name"])

test: $(DEVELOP) ## run the unit tests: PYTEST_ARGS="-k early_stopping"
	pytest --numprocesses 2 --dist loadfile $(PYTEST_ARGS)

# The shapes of the population's tensors are checked by the unit tests.
test-studies test-ui test-faults test-distributed: export JAXTYPING_DISABLE := 1

test-studies: $(DEVELOP) ## run the tests of whole studies and of every command, in five to nine minutes
	pytest --numprocesses 2 --dist loadfile tests/studies $(PYTEST_ARGS)

test-ui: $(UI) ## run the tests in a browser, which leave pictures in build/screenshots/: CHROMIUM=/path/to/browser
	pytest tests/ui $(PYTEST_ARGS)

# Three at a time, on two cores too: some of them wait, for half a minute and more.
test-faults: $(DEVELOP) ## run the tests that break what a study stands on, in a quarter to half of an hour
	pytest --numprocesses 3 --dist loadgroup tests/faults $(PYTEST_ARGS)

test-distributed: $(DISTRIBUTED) ## run the tests of studies over several machines and on servers, in seven to eleven minutes
	pytest --numprocesses 2 --dist loadfile tests/distributed $(PYTEST_ARGS)

test-gpu: $(DEVELOP) ## run the tests of training on a GPU, where torch finds one
	pytest --numprocesses 4 tests/gpu $(PYTEST_ARGS)

check: $(DEVELOP) ## format, lint and types, as CI wants them
	ruff format --check .
	ruff check .
	mypy

audit: $(DEVELOP) ## look what is locked up in the public database of vulnerabilities, where that can be reached
	uv tool run --from 'pip-audit>=2.9,<3' pip-audit --requirement requirements.lock --no-deps --disable-pip --progress-spinner off

format: $(DEVELOP) ## let ruff mend what it can
	ruff format .
	ruff check --fix .

# The store's address may hold a password, which others would read among the arguments of processes.
ui: $(RUNTIME) ## open the MLflow UI on the results: PORT=5000
	@case "$$MLFLOW_TRACKING_URI" in \
	http://*|https://*) echo "The tracking store is a server already: open $$MLFLOW_TRACKING_URI" | \
	   sed -E 's|(://[^:/@]*):.*@|\1:***@|' ;; \
	*) echo "Open http://127.0.0.1:$(PORT)/"; python -c "$$FIND_VIEWS" 2>/dev/null; \
	   export MLFLOW_BACKEND_STORE_URI="$$MLFLOW_TRACKING_URI" MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false; \
	   exec mlflow server --host 127.0.0.1 --port $(PORT) --workers 1 ;; \
	esac

# The experiments studied last, each with the view that it opens on.
define FIND_VIEWS
import os, sqlite3
path = os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///")
query = """select experiments.name, experiment_id from experiments join runs using (experiment_id)
    where exists (select 1 from experiment_tags where experiment_tags.experiment_id = runs.experiment_id
    and key = 'mlflow.sharedViewState.study-trials') and experiments.lifecycle_stage = 'active'
    group by experiment_id order by max(start_time) desc limit 5"""
for name, number in sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute(query):
    print(f"  {name}: http://127.0.0.1:$(PORT)/#/experiments/{number}/runs?workflowType=machine_learning"
        "&viewStateShareKey=study-trials&compareRunsMode=CHART")
endef
ui: export FIND_VIEWS := $(FIND_VIEWS)

# The servers stop with the study, or with Ctrl-C after it; what they hold stays in .stack.
stack: $(SERVER) ## run a study on a PostgreSQL and an MLflow server of its own: STUDY=... N_TRIALS=50 KEEP=1 PORT=5000
	@exec python -m deploy.stack --port $(PORT) $(if $(KEEP),--keep) \
		python -m pipeline run "$$STUDY" --n-trials="$$N_TRIALS" --population="$$POPULATION" \
		--seed="$$SEED" --max-epochs="$$MAX_EPOCHS" --replicates="$$REPLICATES" --data="$$DATA" \
		--target="$$TARGET" --resume="$$RESUME" --accept-changes="$$ACCEPT_CHANGES" --promote="$$PROMOTE" \
		--engine="$$ENGINE" --populations="$$POPULATIONS" --address="$$ADDRESS" \
		--cpus-per-population="$$CPUS_PER_POPULATION" --gpus-per-population="$$GPUS_PER_POPULATION"

# A small study, unless another one is named.
stack: STUDY := $(if $(filter file,$(origin STUDY)),studies/smoke.toml,$(STUDY))

bench: $(PEERS) ## measure everything benchmarks/README.md tells of, in an hour or two: BENCH_ARGS="--only throughput"
	python -m benchmarks.bench $(BENCH_ARGS)

screenshots: $(UI) ## take the pictures of the README anew, of the default study
	python -m docs.screenshots

# Folders of wheels are left out, so that no machine's own build is what gets locked.
lock: $(DEVELOP) ## pyproject.toml -> requirements*.lock: UPGRADE=1 for newer versions
	$(COMPILE) --output-file requirements.lock
	$(COMPILE) --extra test --extra dev --constraint requirements.lock --output-file requirements-dev.lock
	$(COMPILE) --extra peers --constraint requirements.lock --output-file requirements-peers.lock
	$(COMPILE) --extra ray --constraint requirements-dev.lock --constraint requirements-peers.lock --output-file requirements-ray.lock
	$(COMPILE) --extra ui --constraint requirements-dev.lock --output-file requirements-ui.lock
	$(COMPILE) --extra server --constraint requirements-dev.lock --output-file requirements-server.lock

COMPILE = env -u UV_FIND_LINKS UV_CUSTOM_COMPILE_COMMAND="make lock" \
	uv pip compile pyproject.toml --config-file lock.toml --quiet --universal --python-version 3.11 --fork-strategy fewest \
	$(if $(UPGRADE),--upgrade)

clean: ## remove the environment and the caches, never the results
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNTIME):
	@test -n "$(PYTHON)" || { echo "make needs Python 3.11 or newer, however: none on PATH" >&2; exit 2; }
	rm -f $(STAMPS)
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP_INSTALL) --requirement requirements.lock
	@touch $@

$(PEERS): $(RUNTIME)
	$(PIP_INSTALL) --requirement requirements-peers.lock
	@touch $@

$(SERVER): $(RUNTIME)
	$(PIP_INSTALL) --requirement requirements-server.lock
	@touch $@

$(DISTRIBUTED): $(DEVELOP)
	$(PIP_INSTALL) --requirement requirements-server.lock --requirement requirements-ray.lock
	@touch $@

$(UI): $(DEVELOP)
	$(PIP_INSTALL) --requirement requirements-ui.lock
	@touch $@

$(DEVELOP): $(RUNTIME)
	$(PIP_INSTALL) --requirement requirements-dev.lock
	@touch $@
