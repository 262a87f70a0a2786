# make demo: a whole rehearsed project (real CLI, scripted model, no key, no cost)
# make test: every check but the long ones; make slow: those; make all: both in one run, as CI does; make chaos: the
# fault battery alone. Most tests wait for processes: three at a time keep two cores busy (JOBS=2 make all: fewer).

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= 3
WHICH  ?= not slow
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
READY  := $(VENV)/.ready

.PHONY: demo test lint types layers all slow chaos tools fuzz fuzz-guided fuzz-properties bench soak docs audit-deps clean

demo: $(READY)
	$(BIN)/producerctl demo

test: $(READY) lint types layers
	$(PYTEST) -m "$(WHICH)"

all: tools
	$(MAKE) test WHICH=

slow: $(READY) tools
	$(PYTEST) -m slow

chaos: $(READY) tools
	$(BIN)/python tests/chaos/run.py --faults 200 --short --jobs 2

fuzz: $(READY)
	$(BIN)/python tests/fuzz/run.py --inputs 1000000 --seed 7

# The same guided by coverage; atheris has wheels for a few versions of Python on Linux alone.
fuzz-guided: $(READY)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --group fuzz
	$(BIN)/python tests/fuzz/guided.py --inputs 1000000 --seed 7

# The properties that hypothesis tries in the suite, each with twenty thousand examples.
fuzz-properties: $(READY)
	FUZZ_EXAMPLES=20000 $(BIN)/python -m pytest -q --timeout=0 tests/fuzz/test_fuzz_properties.py tests/config/test_config_fuzz.py

# What the battery can do without, and says so: the clock's jumps. There is no wheel of it for every machine.
tools: $(READY)
	-@$(BIN)/uv pip install --quiet --python $(BIN)/python --group chaos

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python benchmarks/run.py

# A million tasks (six minutes or more, 3 GB of disk): what grows, as curves in docs/soak.svg.
soak: $(READY)
	$(BIN)/python benchmarks/soak.py --svg docs/soak.svg

# What is installed and whether it is new enough: docs/dependencies.md.
audit-deps: $(READY)
	$(BIN)/python tests/dependencies/audit.py

docs: $(READY)
	$(BIN)/python -m producer.core.lifecycle > docs/lifecycle.md
	$(BIN)/python -m producer.config.docs > docs/configuration.md
	$(BIN)/python -m producer.cli.docs > docs/commands.md
	$(BIN)/python -m producer.cli.unit systemd

# uv where it is at hand (or can be had from the index), else pip: the SDK's wheel is large and pip unpacks it slowly.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; then \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --group dev -e .; \
	else \
	  $(BIN)/python -m pip install --quiet --upgrade pip && $(BIN)/python -m pip install --quiet --group dev -e .; \
	fi
	@touch $@

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
