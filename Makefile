# `make demo` makes a video of the example scene; `make test` runs the tests. Both set up what they need.
PYTHON ?= python3
TORCH ?= auto
PROMPT ?= a street of coloured blocks under a blue sky, sunny afternoon, slow dolly in
SETUP = $(PYTHON) tools/environments.py --torch $(TORCH)
# Blender 5.2 needs Python 3.13, which not every machine has.
HOST52 := $(shell command -v python3.13 || ls -d $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.13.*/bin/python3.13 2>/dev/null | head -n 1)

.PHONY: demo test test-all setup lint examples clean

setup:
	@$(SETUP) engine host

demo: setup
	.venv/host/bin/animatic render examples/city_dolly.blend --prompt "$(PROMPT)" --out out/demo --force

test:
	@$(PYTHON) tools/run_tests.py

test-all:
	@$(PYTHON) tools/run_tests.py --slow

lint:
	@$(SETUP) engine
	.venv/engine/bin/ruff check .
	.venv/engine/bin/ruff format --check .
	.venv/engine/bin/mypy

examples:
	@$(SETUP) host45
	.venv/host45/bin/python examples/build_examples.py
