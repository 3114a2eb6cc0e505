# Everything a newcomer types. `make` alone lists it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Labelled calls and the voices in them, if somebody put them beside the repository; else the demo's calls are played.
CORPUS ?= ../shared/corpus
LABELLED = $(if $(wildcard $(CORPUS)/calls),$(CORPUS)/calls $(patsubst %,--enrol $(CORPUS)/%,en zh) --apart magic)

.DEFAULT_GOAL := help
.PHONY: help setup demo cluster-demo test faults check unit bench bench-ingest bench-quality bench-voiceprint bench-load bench-board lock docs clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

# The stamp is newer than the locks only when what they name is installed.
$(VENV)/.installed: requirements-dev.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Earshot needs Python 3.11 or newer; name one with make PYTHON=python3.11 setup")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/pip install --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

setup: $(VENV)/.installed ## install into .venv and pull the default models
	$(BIN)/earshot models pull

demo: setup ## play two phone calls through the whole system and show what happens (DEMO=en|zh for one)
	$(BIN)/earshot demo $(DEMO)

cluster-demo: setup ## kill a gateway and a worker of a cluster under calls and show that nothing was lost (CLUSTER="--redis flush")
	$(BIN)/python -m loadtest.cluster_demo $(CLUSTER)

check: $(VENV)/.installed ## formatting, lint, types, and the layers of the design
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One process more than processors: many of these tests wait for others, for leases and for real time.
test: setup check ## everything CI runs
	$(BIN)/pytest -n $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )) --dist loadfile

faults: setup ## kill, starve, cut off and flood real servers, and print what it cost
	$(BIN)/pytest tests/faults tests/contract/test_cluster.py --full -n0

bench: setup ## latency, accuracy and CPU of live calls played in real time (BENCH="--play stereo --limit 1" for a quick look)
	$(BIN)/earshot eval $(LABELLED) $(or $(BENCH),--play stereo --play mono)

bench-quality: setup ## what voice QC's transcripts are worth and cost (BENCH="--name en-1 --play mono" for a quick look)
	$(BIN)/python -m loadtest.bench_quality $(if $(wildcard $(CORPUS)/calls),--calls $(CORPUS)/calls --apart magic) $(BENCH)
	$(BIN)/python -m loadtest.bench_workers

bench-voiceprint: setup ## how well voices are told apart, how fast they are found and enrolled (VOICES="--only pairs" for a quick look)
	$(BIN)/python -m loadtest.bench_voices $(VOICES)
	$(BIN)/python -m loadtest.bench_search --rows 100000 --rows 1000000
	$(BIN)/python -m loadtest.bench_enrol

bench-board: setup ## what the screen's board takes of a browser with 300 live calls (BOARD="--real 60": copies of fewer)
	$(BIN)/python -m tests.browser.bench_board $(BOARD)

bench-load: $(VENV)/.installed ## what the load harness costs, and how many calls a core takes without text (LOAD="--slo FILE" and other options of run)
	$(BIN)/python -m loadtest cost --cpus 1
	$(BIN)/python -m loadtest run ramp-to-failure --server "" --set vad=webrtc --set live_text=false --set quality_workers=0 --server-cpus 0 --cpus 1 $(LOAD)

bench-ingest: setup ## what it costs to take audio, beside plain servers and a floor in C (INGEST="--only earshot" for a quick look)
	$(BIN)/python -m loadtest.bench_ingest $(INGEST)

unit: $(VENV)/.installed ## the pure core and the adapters, in seconds
	$(BIN)/pytest tests/unit tests/contract

docs: $(VENV)/.installed ## make the documents anew that are made from the code
	$(BIN)/python -m docs.generate

lock: ## resolve the dependencies anew (needs uv)
	uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.lock
	uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links pyproject.toml --extra eval --extra load --group dev -c requirements.lock -o requirements-dev.lock

clean: ## remove the virtual environment and every cache of the tools
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
