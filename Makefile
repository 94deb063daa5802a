# Every target makes the virtual environment when it is missing or its requirements have changed.
#   make demo    train Glow on scikit-learn's digits and show its exact bits per dimension
#   make test    the whole suite
#   make lint    ruff, ruff format, pyright
#   make bench   the benchmarks, as tables

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
RUN    := $(VENV)/bin/python
READY  := $(VENV)/.ready
DEMO   ?= runs/glow_digits

.PHONY: demo test lint format bench clean
.DEFAULT_GOAL := demo

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)
	$(RUN) -m experiments.train --config=experiments/configs/glow_digits.py --workdir=$(DEMO)
	@echo "Look at $(DEMO)/samples/ and $(DEMO)/learning_curve.png"

test: $(READY)
	$(RUN) -m pytest -n 2 --dist loadgroup

lint: $(READY)
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m pyright

format: $(READY)
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

bench: $(READY)
	$(RUN) -m benchmarks.scan_vs_loop

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
