# make demo | test | test-cluster | test-all | check | types | docs | bench | chaos | mutants | dist: each sets up .venv first. PYTHON chooses the interpreter.
PYTHON ?= python3
# How many tests run at a time: most of them wait for processes, so more than there are cores.
JOBS ?= 4
# Further words for pytest, such as TESTS="-k journal" or TESTS=--last-failed.
TESTS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-cluster test-all check types docs bench chaos mutants dist clean

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(READY)

demo: $(READY)
	mkdir -p demo
	cp docs/examples/mandelbrot.py docs/examples/mandelbrot.yaml demo/
	$(BIN)/pilotfish run demo/mandelbrot.yaml --wd demo --output demo/logs
	@echo "picture: demo/mandelbrot.png"

# Needs nothing but Python. What needs batch systems and virtual machines is in tests/cluster.
test: $(READY)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --ignore=tests/cluster $(TESTS)

# Each of two workers has batch systems of its own, on hosts of its own; most of the time they wait.
test-cluster: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/cluster $(TESTS)

test-all: test test-cluster

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) types
	$(BIN)/python -m pytest -q tests/test_layers.py tests/test_packaging.py
	$(BIN)/python -m coverage run -m pytest -q tests/pilot/model tests/pilot/wire tests/pilot/manager
	$(BIN)/python -m coverage report
	$(BIN)/python docs/generate.py --check
	$(MAKE) docs

# The site, in .venv/site. The package's parts are linked, not its root, in which the links would be found again without end.
PACKAGE := $(VENV)/package/pilotfish
docs: $(READY)
	rm -rf $(VENV)/package && mkdir -p $(PACKAGE)
	ln -s $(CURDIR)/api $(CURDIR)/pilot $(CURDIR)/launcher $(CURDIR)/*.py $(CURDIR)/py.typed $(PACKAGE)/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --site-dir $(VENV)/site

# The repository root is the package `pilotfish`. Tests import their helpers by bare names, because conftest.py files put
# these folders on the path; links to both show mypy the same names.
# What users' programs see (tests/typed_uses.py) pyright checks too; it brings a node of its own.
TYPES := $(VENV)/types
types: $(READY) $(VENV)/.types
	rm -rf $(TYPES) && mkdir -p $(TYPES)/helpers && ln -s $(CURDIR) $(TYPES)/pilotfish
	find $(CURDIR)/tests \( -name benchmarks -o -name mutants \) -prune -o -name '*.py' ! -name 'test_*' ! -name conftest.py \
		-exec ln -s -t $(TYPES)/helpers {} +
	cd $(TYPES) && MYPYPATH=. ../bin/mypy --config-file $(CURDIR)/pyproject.toml -p pilotfish.pilot -p pilotfish.api -p pilotfish.launcher
	MYPYPATH=$(TYPES):$(TYPES)/helpers $(BIN)/mypy --explicit-package-bases tests recipes
	$(BIN)/pyright --pythonpath $(BIN)/python

$(VENV)/.types: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[types]'
	touch $(VENV)/.types

bench: $(READY)
	$(BIN)/python tests/benchmarks/run.py $(BENCH)

# Is anything lost, doubled or failed when anything is killed, stopped, or the clock is set? See docs/developing/chaos.md.
# CHAOS="ROUNDS [SEED [TASKS]] [--jobs N] [--minutes N]"; a round of 3,000 tasks takes half a minute to two.
# CHAOS_CALLS="CALLS [SEED [FAULTS]]" is a round with calls of an executor, of which the client is killed, too.
CHAOS ?= 5
CHAOS_CALLS ?= 20000
chaos: $(READY)
	PYTHONPATH=tests $(BIN)/python tests/pilot/processes/chaos.py $(CHAOS)
	PYTHONPATH=tests $(BIN)/python tests/pilot/processes/chaos_calls.py $(CHAOS_CALLS)

# Do the tests notice when a line of the core is wrong? Slow: some seconds for each of MUTANTS, drawn with SEED.
MUTANTS ?= 60
SEED ?= 1
mutants: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[mutants]'
	rm -rf $(VENV)/mutants && mkdir -p $(VENV)/mutants/pilotfish
	git ls-files -z | xargs -0 cp --parents --target-directory=$(VENV)/mutants/pilotfish
	cd $(VENV)/mutants/pilotfish && export PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH="$(CURDIR)/$(VENV)/mutants" && \
	cosmic-ray init tests/mutants/cosmic-ray.toml ../session.sqlite && \
	cr-filter-operators ../session.sqlite tests/mutants/cosmic-ray.toml && \
	python tests/mutants/sample.py ../session.sqlite $(MUTANTS) $(SEED) && \
	cosmic-ray exec tests/mutants/cosmic-ray.toml ../session.sqlite && \
	cr-report --surviving-only --show-diff ../session.sqlite

# What a release consists of, in .venv/dist: see docs/developing/releasing.md.
dist: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[release]'
	rm -rf $(VENV)/dist
	$(BIN)/python recipes/release.py $(VENV)/dist

clean:
	rm -rf $(VENV) build demo site
