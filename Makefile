# make demo: the main job, with nothing but Python.   make test: everything, set up included.
PYTHON ?= python3
VENV ?= .venv
FOLDER ?=
FUZZ_MESSAGES ?= 1000000
# Most tests wait for something: on two cores, four at a time leave a third of their time unused.
PYTEST_ARGS ?= -n 6 --dist worksteal
# Percent of the lines that the processes of pytest must run. Child processes are not measured: it
# would cost each of them 0.11 s.
FLOOR ?= 80

# What tests of pages need from npm.
AXE = tests/browser/node_modules/.package-lock.json
# Newer releases of Django, on the interpreters that they need, with their own tests.
DJANGO = .venv-django/.made

# Where this is set, each of some thousand processes that the tests start compiles all of Alligator.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test coverage chaos fuzz soak bench bench-self bench-micro bench-scale check hooks docs servers screenshots venv clean

help:
	@echo "make demo    run the example on SQLite; FOLDER=path for a folder of your own"
	@echo "make test    set up what is missing, and run all tests"
	@echo "make coverage   the same, and the lines of Alligator that no test runs"
	@echo "make chaos   break everything on purpose and count the losses; 15 minutes"
	@echo "make fuzz    feed a million damaged messages to a worker; 15 minutes"
	@echo "make soak    steady load for ten minutes: does anything grow?"
	@echo "make bench   compare with other queues, each in a venv of its own; 25 minutes"
	@echo "make bench-self   Alligator against bare loops; 2 minutes"
	@echo "make bench-micro  serialize, deserialize, reserve, ack; a minute"
	@echo "make bench-scale  what tasks cost, and how far a server goes; 5 minutes"
	@echo "make check   ruff, mypy, and the words that we do not use"
	@echo "make hooks   let git check ruff and words before each commit"
	@echo "make screenshots   make the pictures of the dashboard in docs/_static/screenshots"
	@echo "make docs    build the documentation into docs/_build/html"
	@echo "make clean   remove what these made"

demo:
	$(PYTHON) examples/demo.py $(FOLDER)

$(VENV)/.made: pyproject.toml scripts/make-venv
	PYTHON=$(PYTHON) sh scripts/make-venv $(VENV)
	touch $@

venv: $(VENV)/.made

servers:
	sh scripts/install-servers

$(AXE): tests/browser/package-lock.json $(VENV)/.made scripts/install-axe
	$(VENV)/bin/python scripts/install-axe
	touch $@

# If that fails, their tests fail and say so: the others can run.
$(DJANGO): tests/support/django_releases.py scripts/fetch-django $(VENV)/.made
	$(VENV)/bin/python scripts/fetch-django && touch $@ || true

test: venv servers $(AXE) $(DJANGO)
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

# Without Alligator's plugin of pytest, which would import Alligator before the measurement begins.
coverage: venv servers $(AXE) $(DJANGO)
	$(VENV)/bin/python -m pytest -p no:alligator --cov --cov-report=term-missing:skip-covered --cov-fail-under=$(FLOOR) $(PYTEST_ARGS)

screenshots: $(VENV)/.made-bench servers $(AXE)
	SCREENSHOTS=docs/_static/screenshots $(VENV)/bin/python -m pytest -q tests/browser/test_screenshots.py

chaos: venv servers
	$(VENV)/bin/python -m chaos $(CHAOS_ARGS)

fuzz: venv
	FUZZ_MESSAGES=$(FUZZ_MESSAGES) $(VENV)/bin/python -m pytest -q -s tests/fuzz --timeout 0

soak: venv servers
	$(VENV)/bin/python -m chaos.soak $(SOAK_ARGS)

$(VENV)/.made-bench: $(VENV)/.made
	$(VENV)/bin/pip install --quiet --editable '.[bench]'
	touch $@

bench: $(VENV)/.made-bench servers
	$(VENV)/bin/python -m benchmarks --out docs/figures/bench.json --docs docs/figures $(BENCH_ARGS)

bench-self: venv servers
	$(VENV)/bin/python -m benchmarks --self --quick $(BENCH_ARGS)

bench-micro: $(VENV)/.made-bench
	$(VENV)/bin/python -m pytest -q benchmarks/micro $(BENCH_ARGS)

bench-scale: venv servers
	$(VENV)/bin/python -m benchmarks.scale.measure --out docs/figures/scale.json --docs docs/figures $(BENCH_ARGS)

check: venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python scripts/check-words

hooks: venv
	$(VENV)/bin/pre-commit install

docs: venv
	$(VENV)/bin/python scripts/build-docs

clean:
	rm -rf $(VENV) .venv-django benchmarks/.venvs build dist *.egg-info docs/_build tests/browser/node_modules .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
