# Two commands are enough: `make lab` opens the lab at work, `make test` proves that it works.
# Both set everything up first; a second set-up takes no time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8888
BROWSER ?= auto
# On two cores: a test waits about a third of its time, for a socket, a process or a page.
WORKERS ?= 3
STAMP := $(VENV)/.set-up
TEST_STAMP := $(VENV)/.set-up-for-tests

.PHONY: help setup lab test deep lint format bench

help:
	@echo "make lab      open the lab in JupyterLab (PORT=8888 BROWSER=auto|none)"
	@echo "make test     set up and run all tests (WORKERS=3 at a time)"
	@echo "make deep     the slow proofs"
	@echo "make setup    only set up, the tools for tests included"
	@echo "make lint     ruff and mypy          make format   ruff format"
	@echo "make bench    the benchmarks"

setup: $(TEST_STAMP)

# The stamp is older than one of these files exactly when something to install may have changed.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "labkit needs Python 3.11 or newer; make setup PYTHON=python3.12 chooses one")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	$(BIN)/labkit doctor --compile
	@touch $(STAMP)

$(TEST_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $(TEST_STAMP)

lab: $(STAMP)
	@$(BIN)/labkit lab --port $(PORT) --browser $(BROWSER)

# Browser tests run by themselves: Playwright keeps an event loop running in its thread. A bar that is drawn only where
# work takes long would make the outputs of notebooks differ, so there is none.
test: setup
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not deep and not browser"
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not deep and browser" --timeout 600
	@state=$$(mktemp -d) && LABKIT_DATA_DIR=$$state TQDM_DISABLE=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
	  --nbval --nbval-current-env --nbval-cell-timeout 170 --timeout 400 notebooks; \
	  status=$$?; rm -rf $$state; exit $$status

deep: setup .venv-ccxt
	@$(BIN)/python -m pytest -m "deep and not browser" --timeout 3000
	@$(BIN)/python -m pytest -m "deep and browser" --timeout 3000

# A client we did not write, in an environment of its own: its dependencies are not ours.
.venv-ccxt:
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check ccxt==4.5.90

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: setup
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: setup
	@for program in benchmarks/*.py; do echo "== $$program"; $(BIN)/python $$program || exit 1; done
