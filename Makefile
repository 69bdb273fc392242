# `make demo` and `make test` set up all they need, each by itself, in .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= 2
STREAMS ?= 1000
N       ?= 1
PORT    ?= 8000
PIP     = $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo stack compose-secrets test chaos faults versions exact check format bench clean

help:
	@echo "make demo    run the main job once, from a video to a ZIP, with a server of its own"
	@echo "make stack   run every role as a process, on private PostgreSQL, RabbitMQ and Redis (N=2: two of each)"
	@echo "make compose-secrets    make what compose/compose.yaml needs; then docker compose up"
	@echo "make test    run all tests"
	@echo "make chaos   kill workers, services and RabbitMQ for three minutes while 300 videos are uploaded"
	@echo "make faults  break everything, with outages of a minute, and show as a table what came of it"
	@echo "make versions    run each role as of the version before, beside the others (FIAPX_OLDER: a revision of git)"
	@echo "make check   format, lint, types, layers"
	@echo "make format  mend what ruff can mend"
	@echo "make exact   compare the pixels of STREAMS=1000 random videos with FFmpeg's"
	@echo "make bench   measure side by side with FFmpeg and zip"
	@echo "make clean   remove what the others made"

$(VENV)/run.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fiapx needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing fiapx into $(VENV) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	@echo "installing the tools for development ..."
	@$(PIP) --editable '.[dev]'
	@touch $@

demo: $(VENV)/run.stamp
	@PATH="$(abspath $(BIN)):$$PATH" sh scripts/demo.sh

stack: $(VENV)/run.stamp
	@$(BIN)/python -m scripts.stack --each $(N) --port $(PORT) $(ARGS)

compose-secrets:
	@sh compose/secrets.sh

test: $(VENV)/dev.stamp
	$(BIN)/pytest -n $(JOBS) --dist loadgroup $(ARGS)

chaos: $(VENV)/dev.stamp
	FIAPX_CHAOS_SECONDS=180 FIAPX_CHAOS_UPLOADS=300 $(BIN)/pytest -q -s -n 0 tests/stack/test_chaos.py $(ARGS)

faults: $(VENV)/dev.stamp
	FIAPX_FAULT_SECONDS=60 FIAPX_KILLS=20 $(BIN)/pytest -q -n $(JOBS) --dist loadgroup --timeout 900 --faults $(ARGS)

versions: $(VENV)/dev.stamp
	$(BIN)/pytest -q -s -n 0 --timeout 900 --lengthy tests/stack/test_versions.py $(ARGS)

check: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

format: $(VENV)/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

exact: $(VENV)/dev.stamp
	FIAPX_EXACT_STREAMS=$(STREAMS) $(BIN)/pytest -q -s -k drawn tests/media/test_exact.py $(ARGS)

bench: $(VENV)/dev.stamp
	@$(PIP) opencv-python-headless || echo "OpenCV cannot be installed; the benchmark goes without"
	$(BIN)/python -m benchmarks.engine $(ARGS)

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
