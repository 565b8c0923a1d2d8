# make demo   the main job, offline, on the embedded data
# make test   every test, the linter and the type checker
# make setup  only .venv, with all that the tests need (no vLLM)

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
RMBENCH := $(VENV)/bin/rmbench

.PHONY: setup demo test lint slow boards bench bench-check clean

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
	$(RMBENCH) compare builtin:tiny builtin:linear --task bon --items 5 --results .demo/results
	$(RMBENCH) leaderboard main --results .demo/results --out .demo/leaderboards

test: $(VENV)/.dev lint
	$(VENV)/bin/python -m pytest -n 2

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

slow: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -n 2 -m ''

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
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
