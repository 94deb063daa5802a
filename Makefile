# Every target makes the virtual environment when it is missing or its requirements have changed.
#   make demo    train Glow on scikit-learn's digits and show its exact bits per dimension
#   make test    the whole suite, a file at a time on each of two processes
#   make soak    faults by the hundred (kill -9, bad disks, SIGTERM), and how many were survived
#   make lint    ruff, ruff format, pyright
#   make docs    the documentation, docs/_build/html; a warning is an error
#   make notebooks  runs the notebooks and stores what they show
#   make bench   the benchmarks, as tables, against peers in environments of their own (make bench-env);
#                make bench-glow_speed, bench-growth, bench-moons, bench-peak, bench-scaling: one of them

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
RUN    := $(VENV)/bin/python
READY  := $(VENV)/.ready
DEMO   ?= runs/glow_digits

.PHONY: demo test soak lint docs notebooks format bench bench-env clean
.DEFAULT_GOAL := demo

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	touch $@

demo: $(READY)
	$(RUN) -m experiments.train --config=experiments/configs/glow_digits.py --workdir=$(DEMO)
	@echo "Look at $(DEMO)/samples/ and $(DEMO)/learning_curve.png"

test: $(READY)
	$(RUN) -m pytest -n 2 --dist loadfile --durations=25

soak: $(READY)
	$(RUN) tests/soak.py

lint: $(READY)
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m pyright

docs: $(READY)
	rm -rf docs/_build
	$(RUN) -m sphinx -q -W --keep-going -n -b html docs docs/_build/html

notebooks: $(READY)
	$(RUN) tests/run_notebooks.py

format: $(READY)
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

BENCHMARKS := glow_speed growth moons peak scaling

bench: bench-scan_vs_loop bench-glow_speed_wide $(BENCHMARKS:%=bench-%)

bench-env: $(READY)
	$(RUN) -m benchmarks.harness

bench-glow_speed_wide: bench-env
	$(RUN) -m benchmarks.glow_speed --depth 32 --width 512 --compile-box 0 --out glow_speed_wide \
		--peers flowjax_glow normflows nflows FrEIA  # unrolled in JAX, K=32 compiles for too long

bench-%: bench-env  # bench-glow_speed and so on
	$(RUN) -m benchmarks.$*

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
