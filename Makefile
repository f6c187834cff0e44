# make run: the default study, to results/report.html.   make test: lint and tests.   make test-all: those that take long, too.
# See README.md and docs/.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# How many GPUs jobs may take: those in CUDA_VISIBLE_DEVICES where it is set, else all that there are.
GPU ?= $(shell if [ -n "$${CUDA_VISIBLE_DEVICES+set}" ]; then echo "$$CUDA_VISIBLE_DEVICES" | tr , '\n' | grep -c '^[^-]'; \
	else nvidia-smi -L 2>/dev/null | grep -c '^GPU'; fi)
READY := $(VENV)/ready

.DEFAULT_GOAL := run
.PHONY: run resume test test-long test-all lint benchmark gpu-benchmark overhead coverage disk kills clean

$(READY): requirements.lock tests/requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --requirement tests/requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)

run: $(READY)
	$(BIN)/snakemake --cores all --resources gpu=$(GPU)
	@echo "The report is at $(CURDIR)/results/report.html"

# A run that was killed goes on; so does a plain `make run`.
resume: run

PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadgroup

# What a change is checked with: all but the tests that take long.
test: $(READY) lint
	$(PYTEST) -m "not long"

# pytest ends with status 5 where there is no such test.
test-long: $(READY)
	$(PYTEST) -m long || [ $$? = 5 ]

# One after the other, whatever --jobs says: each takes every core.
test-all: test
	$(MAKE) test-long

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

benchmark: $(READY)
	$(BIN)/python tests/benchmarks/run.py

# At most four minutes on a GPU; without one, a short form on the CPU.
gpu-benchmark: $(READY)
	$(BIN)/python tests/benchmarks/gpu.py

overhead: $(READY)
	$(BIN)/python tests/benchmarks/overhead.py

coverage: $(READY)
	$(BIN)/python tests/benchmarks/coverage.py

disk: $(READY)
	$(BIN)/python tests/benchmarks/disk.py

kills: $(READY)
	$(BIN)/python -m pytest tests/e2e/test_kills.py --kills 20 --power-cuts 10

clean:
	rm -rf results .snakemake
