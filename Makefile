# medcurve: `make help` lists what there is. Every stage target calls the same `medcurve` command.

# What may be set, each with an example: `make help` prints the lines that begin with #:
#: DATA=breastmnist           cohort: a name in configs/data, or a YAML file
DATA    ?= phantom3d
#: COHORT=my_scans            what the YAML file of DATA calls the cohort: its results lie in RUNS/COHORT
COHORT  ?= $(notdir $(basename $(DATA)))
#: PREP=mri                   prep config in place of the cohort's own: a name in configs/prep, or a YAML file
PREP    ?=
#: STUDY=quick                a name in configs/study, or a YAML file
STUDY   ?= demo
#: FAMILY=linear              train: a name in configs/family, or a YAML file
FAMILY  ?= cnn_scratch
#: RUNS=/data/runs            folder that all results go to
RUNS    ?= runs
#: WORKERS=2                  processes; else one for each core
WORKERS ?=
#: RULE=one_standard_error    release: choose by this rule; else as the study declared
RULE    ?=
#: REFIT=1                    release: fit the chosen family on validation patients as well
REFIT   ?=
#: MODEL=models:/ct@champion  a model's folder or MLflow address; else that which `release` wrote
MODEL   ?= $(RUNS)/$(COHORT)/model-$(STUDY)$(if $(PREP),-$(basename $(notdir $(PREP))))
#: SCANS=/data/new            predict, explain: folder of scans
SCANS   ?= $(RUNS)/$(COHORT)/inbox
#: OUT=/data/answers          predict, explain: folder for what they write
OUT     ?=
#: METHOD=occlusion           explain: how maps are made
METHOD  ?=
#: TO=torch-export            export: the format
TO      ?= onnx
#: A=breastmnist              compare: one cohort
A       ?= $(DATA)
#: B=pneumoniamnist_rebuilt   compare: the other
B       ?=
#: CLAIM=translation          lecture: this claim alone; with QUICK=1 small, REAL=1 on public scans
CLAIM   ?=
#: QUICK=1                    lecture: run it small
QUICK   ?=
#: FLIP=1                     lecture: undo the mechanism; the claim must then fail
FLIP    ?=
#: REAL=1                     lecture: on public scans too
REAL    ?=
#: PORT=5001                  ui: port on this machine
PORT    ?=
#: PYTHON=python3.12          setup: which Python, 3.11 or newer
PYTHON  ?= python3

VENV     := .venv
MEDCURVE := $(VENV)/bin/medcurve
READY    := $(VENV)/.ready
WITH_PREP := $(if $(PREP),--prep $(PREP))
IN_RUNS  := --runs $(RUNS)
BY_MANY  := $(if $(WORKERS),--workers $(WORKERS)) $(IN_RUNS)

.DEFAULT_GOAL := help
.PHONY: help setup data ingest summary compare plan split prep train study leaderboard lecture report release evaluate predict export explain audit sync ui demo check test test-pacs bench clean

help: ## list the targets
	@echo "medcurve: which model, how much data, and can I trust it on my scans?"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "What they work on, to be set behind the target (make study DATA=breastmnist STUDY=quick):"
	@echo
	@sed -n 's/^#: /  /p' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv and install medcurve with the tested versions

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"medcurve needs Python 3.11 or newer, {sys.executable} is {v[0]}.{v[1]}: set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

data: $(READY) ## fetch or generate the scans of DATA
	$(MEDCURVE) data $(DATA) $(IN_RUNS)

ingest: $(READY) ## read the scans of DATA once: manifest and quarantine
	$(MEDCURVE) ingest $(DATA) $(BY_MANY)

summary: $(READY) ## show what the scans of DATA are like: a table and a page with pictures
	$(MEDCURVE) summary $(DATA) $(BY_MANY)

compare: $(READY) ## show whether the scans of the cohorts A and B look alike: a table and a page
	@test -n "$(B)" || { echo "name the cohort to compare $(A) with: make compare A=$(A) B=pneumoniamnist_rebuilt"; exit 2; }
	$(MEDCURVE) compare-cohorts $(A) $(B) $(BY_MANY)

plan: $(READY) ## propose a prep config for DATA, with a reason for each choice
	$(MEDCURVE) plan $(DATA) $(BY_MANY)

split: $(READY) ## divide the patients into train, val and test
	$(MEDCURVE) split $(DATA) $(BY_MANY)

prep: $(READY) ## fit the preprocessing recipe on training scans and write the store
	$(MEDCURVE) prep $(DATA) $(WITH_PREP) $(BY_MANY)

train: $(READY) ## train one FAMILY on all training patients
	$(MEDCURVE) train $(FAMILY) --data $(DATA) $(WITH_PREP) $(IN_RUNS)

study: $(READY) ## run STUDY on DATA: families x sizes x subsets x seeds
	$(MEDCURVE) study $(STUDY) --data $(DATA) $(WITH_PREP) $(BY_MANY)

leaderboard: $(READY) ## every family on three public sets, beside published scores (up to 50 minutes)
	$(MEDCURVE) leaderboard $(BY_MANY)

lecture: $(READY) ## put CLAIM to the test, or all of the lecture; QUICK=1 small, REAL=1 on public scans too, FLIP=1 undone (must fail)
	$(MEDCURVE) lecture $(CLAIM) $(if $(QUICK),--quick) $(if $(FLIP),--flip) $(if $(REAL),--real) $(BY_MANY)

report: $(READY) ## write the report of STUDY again from its journal
	$(MEDCURVE) report $(STUDY) --data $(DATA) $(WITH_PREP) $(IN_RUNS)

release: $(READY) ## choose a model by the study's rule and package it
	$(MEDCURVE) release $(STUDY) --data $(DATA) $(WITH_PREP) $(if $(RULE),--rule $(RULE)) $(if $(REFIT),--refit) $(IN_RUNS)

evaluate: $(READY) ## judge MODEL by the labelled test scans of DATA: a page and a model card
	$(MEDCURVE) evaluate $(MODEL) --data $(DATA) $(BY_MANY)

predict: $(READY) ## run MODEL over the folder SCANS, results in OUT
	$(MEDCURVE) predict $(MODEL) $(SCANS) --out $(or $(OUT),$(RUNS)/$(COHORT)/predictions) $(BY_MANY)

export: $(READY) ## write MODEL as ONNX (or TO=torch-export) and check it against the model
	$(MEDCURVE) export $(MODEL) --to $(TO) $(IN_RUNS)

explain: $(READY) ## show where in the scans of SCANS the answers of MODEL come from
	$(MEDCURVE) explain $(MODEL) $(SCANS) --out $(or $(OUT),$(RUNS)/$(COHORT)/explanations) $(if $(METHOD),--method $(METHOD)) $(BY_MANY)

audit: $(READY) ## shift the test scans of DATA in every way; name what is most dangerous to MODEL
	$(MEDCURVE) audit $(MODEL) --data $(DATA) $(BY_MANY)

sync: $(READY) ## bring MLflow up to date with the journal of STUDY
	$(MEDCURVE) sync $(STUDY) --data $(DATA) $(WITH_PREP) $(IN_RUNS)

ui: $(READY) ## open MLflow's UI on this machine
	$(MEDCURVE) ui $(if $(PORT),--port $(PORT)) $(IN_RUNS)

demo: $(READY) ## the whole chain on DATA, from scans to predictions
	$(MEDCURVE) demo $(DATA) $(if $(filter-out demo,$(STUDY)),--study $(STUDY)) $(WITH_PREP) $(BY_MANY)

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
