# EditKit's commands. `make` alone lists them. PYTHON=... chooses the interpreter (3.10 or newer).

ifeq ($(OS),Windows_NT)
PYTHON ?= python
BIN := .venv/Scripts/python.exe
else
PYTHON ?= python3
BIN := .venv/bin/python
endif

# What `python . demo` imports, and no more; the versions are those of tests/constraints.txt.
DEMO := torch safetensors einops pillow numpy
PIP := $(BIN) -m pip install --disable-pip-version-check $(if $(CI),-q) -c tests/constraints.txt
# Two files at a time: most of a file's time is its servers', exports' and trainings', which need few cores.
PYTEST := $(BIN) -m pytest tests -n 2 --dist loadfile
RERUN := $(MAKE) --no-print-directory
WHICH := import sys; print(sys.version_info[:3], sys.base_prefix)

.DEFAULT_GOAL := help
.PHONY: help demo test test-long lint check twins pages venv clean

help:  ## lists these commands
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | sort | expand -t 12

demo: venv  ## edits the sample photographs five ways, into out/demo
	@$(RERUN) .venv/.demo
	$(BIN) . demo

test: venv  ## installs every requirements-*.txt and runs all tests (long ones shortened)
	@$(RERUN) .venv/.test
	$(PYTEST) $(TESTS)

test-long: venv  ## runs all tests, the long ones in full
	@$(RERUN) .venv/.test
	$(PYTEST) --long $(TESTS)

lint: venv  ## ruff, with Python 3.10's syntax as the limit
	@$(RERUN) .venv/.test
	$(BIN) -m ruff check .

check: lint  ## lint, byte-compilation, and the checks on workflows, nodes and docs
	$(BIN) -m compileall -q -f __init__.py __main__.py $(wildcard nodes models headless training benchmarks tests)
	$(BIN) -m pytest tests/house -q

twins: venv  ## rewrites workflows/api/*.json from workflows/*.json
	@$(RERUN) .venv/.test
	$(BIN) tests/house/twin.py

pages: venv  ## rewrites the tables of web/docs/*.md from the nodes' tooltips
	@$(RERUN) .venv/.test
	$(BIN) tests/house/pages.py

clean:  ## removes .venv, caches and out/
	rm -rf .venv .pytest_cache .ruff_cache out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment that exists is kept unless PYTHON= was given and is another interpreter.
venv:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "EditKit needs Python 3.10 or newer, and '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1 || true)."; \
	  echo "Name another interpreter, for example: make $(or $(firstword $(MAKECMDGOALS)),demo) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN) $(if $(filter-out file default undefined,$(origin PYTHON)),&& \
	  test "$$($(BIN) -c '$(WHICH)')" = "$$("$(PYTHON)" -c '$(WHICH)')") || { \
	  echo "Making .venv with $$("$(PYTHON)" -V 2>&1)"; rm -rf .venv; "$(PYTHON)" -m venv .venv; }

.venv/.demo: requirements.txt tests/constraints.txt
	$(PIP) $(DEMO)
	@touch $@

# Everything but ComfyUI's own front end, which no test outside ComfyUI needs.
.venv/.test: .venv/.demo $(wildcard requirements-*.txt)
	@grep -v '^comfyui-frontend-package' requirements.txt > .venv/requirements.txt
	$(PIP) -r .venv/requirements.txt $(foreach file,$(wildcard requirements-*.txt),-r $(file))
	@touch $@
