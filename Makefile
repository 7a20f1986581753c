# medcurve: `make help` lists what there is. Every stage target calls the same `medcurve` command.

DATA   ?= phantom3d
STUDY  ?= demo
FAMILY ?= cnn_scratch
RUNS   ?= runs
MODEL  ?= $(RUNS)/$(DATA)/model-$(STUDY)$(if $(PREP),-$(basename $(notdir $(PREP))))
SCANS  ?= $(RUNS)/$(DATA)/inbox
OUT    ?= $(RUNS)/$(DATA)/predictions
PYTHON ?= python3
PREP   ?=
CLAIM  ?=
METHOD ?=
A      ?= $(DATA)
B      ?=
QUICK  ?=
FLIP   ?=
REAL   ?=
TO     ?= onnx

VENV     := .venv
MEDCURVE := $(VENV)/bin/medcurve
READY    := $(VENV)/.ready
WITH_PREP := $(if $(PREP),--prep $(PREP))

.DEFAULT_GOAL := help
.PHONY: help setup data ingest summary compare plan split prep train study leaderboard lecture report release evaluate predict export explain audit sync ui demo check test test-pacs bench clean

help: ## list the targets
	@echo "medcurve: which model, how much data, and can I trust it on my scans?"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  DATA=$(DATA) STUDY=$(STUDY) FAMILY=$(FAMILY) RUNS=$(RUNS) choose what they work on."

setup: $(READY) ## create .venv and install medcurve with the tested versions

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"medcurve needs Python 3.11 or newer, {sys.executable} is {v[0]}.{v[1]}: set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

data: $(READY) ## fetch or generate the scans of DATA
	$(MEDCURVE) data $(DATA) --runs $(RUNS)

ingest: $(READY) ## read the scans of DATA once: manifest and quarantine
	$(MEDCURVE) ingest $(DATA) --runs $(RUNS)

summary: $(READY) ## show what the scans of DATA are like: a table and a page with pictures
	$(MEDCURVE) summary $(DATA) --runs $(RUNS)

compare: $(READY) ## show whether the scans of the cohorts A and B look alike: a table and a page
	$(MEDCURVE) compare-cohorts $(A) $(B) --runs $(RUNS)

plan: $(READY) ## propose a prep config for DATA, with a reason for each choice
	$(MEDCURVE) plan $(DATA) --runs $(RUNS)

split: $(READY) ## divide the patients into train, val and test
	$(MEDCURVE) split $(DATA) --runs $(RUNS)

prep: $(READY) ## fit the preprocessing recipe on training scans and write the store
	$(MEDCURVE) prep $(DATA) $(WITH_PREP) --runs $(RUNS)

train: $(READY) ## train one FAMILY on all training patients
	$(MEDCURVE) train $(FAMILY) --data $(DATA) $(WITH_PREP) --runs $(RUNS)

study: $(READY) ## run STUDY on DATA: families x sizes x subsets x seeds
	$(MEDCURVE) study $(STUDY) --data $(DATA) $(WITH_PREP) --runs $(RUNS)

leaderboard: $(READY) ## every family on three public sets, beside published scores (up to 50 minutes)
	$(MEDCURVE) leaderboard --runs $(RUNS)

lecture: $(READY) ## put CLAIM to the test, or all of the lecture; QUICK=1 small, REAL=1 on public scans too, FLIP=1 undone (must fail)
	$(MEDCURVE) lecture $(CLAIM) $(if $(QUICK),--quick) $(if $(FLIP),--flip) $(if $(REAL),--real) --runs $(RUNS)

report: $(READY) ## write the report of STUDY again from its journal
	$(MEDCURVE) report $(STUDY) --data $(DATA) $(WITH_PREP) --runs $(RUNS)

release: $(READY) ## choose a model by the study's rule and package it
	$(MEDCURVE) release $(STUDY) --data $(DATA) $(WITH_PREP) --runs $(RUNS)

evaluate: $(READY) ## judge MODEL by the labelled test scans of DATA: a page and a model card
	$(MEDCURVE) evaluate $(MODEL) --data $(DATA) --runs $(RUNS)

predict: $(READY) ## run MODEL over the folder SCANS, results in OUT
	$(MEDCURVE) predict $(MODEL) $(SCANS) --out $(OUT) --runs $(RUNS)

export: $(READY) ## write MODEL as ONNX (or TO=torch-export) and check it against the model
	$(MEDCURVE) export $(MODEL) --to $(TO) --runs $(RUNS)

explain: $(READY) ## show where in the scans of SCANS the answers of MODEL come from
	$(MEDCURVE) explain $(MODEL) $(SCANS) --out $(RUNS)/$(DATA)/explanations $(if $(METHOD),--method $(METHOD)) --runs $(RUNS)

audit: $(READY) ## shift the test scans of DATA in every way; name what is most dangerous to MODEL
	$(MEDCURVE) audit $(MODEL) --data $(DATA) --runs $(RUNS)

sync: $(READY) ## bring MLflow up to date with the journal of STUDY
	$(MEDCURVE) sync $(STUDY) --data $(DATA) $(WITH_PREP) --runs $(RUNS)

ui: $(READY) ## open MLflow's UI on this machine
	$(MEDCURVE) ui --runs $(RUNS)

demo: $(READY) ## the whole chain on DATA, from scans to predictions
	$(MEDCURVE) demo $(DATA) --runs $(RUNS)

check: $(READY) ## style, types, import rules, and every config loads
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(MEDCURVE) check

test: check ## check, then all tests with branch coverage
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile --cov --cov-report=term-missing:skip-covered --cov-fail-under=90

test-pacs: $(READY) ## install Orthanc and dicom3tools where they lack (as root), and test against them
	@PATH=$$PATH:/usr/sbin command -v Orthanc >/dev/null && command -v dciodvfy >/dev/null || { \
	  test "$$(id -u)" = 0 || { echo "as root: apt-get install orthanc orthanc-dicomweb dicom3tools"; exit 1; }; \
	  apt-get update -qq && apt-get install -qq -y --no-install-recommends orthanc orthanc-dicomweb dicom3tools; }
	MEDCURVE_NEED_ORTHANC=1 $(VENV)/bin/python -m pytest --no-cov tests/pipeline/pacs tests/pipeline/dicom_out

bench: $(READY) ## measure speed against reference loops, as ratios in one run
	$(VENV)/bin/python -m benchmarks

clean: ## remove the virtual environment and caches (runs/ stays)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage*
