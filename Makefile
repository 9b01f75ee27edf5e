# Everything a user needs: make setup, make demo, make test. Variables are explained by `make help`.
PYTHON ?=
# Some shells and conda's compilers export a HOST of their own, which is none of ours.
ifneq ($(origin HOST),command line)
HOST := $(or $(filter mmdet detectron2,$(HOST)),mmdet)
endif
TORCH_INDEX ?=
DETECTRON2 ?=
ARGS ?=
# Processes that run the tests: a file of tests stays in one.
JOBS ?= auto

PY := $(if $(PYTHON),$(PYTHON),.venv/bin/python)

.PHONY: help setup demo test lint clean
.DEFAULT_GOAL := help

help:
	@echo 'make setup    install everything at pinned versions into .venv'
	@echo '              (first time 10 to 15 minutes, because mmcv compiles; later ones a few)'
	@echo 'make demo     train, evaluate and draw a small YOLACT on generated pictures'
	@echo 'make test     run all tests; ARGS="-k doctor" selects some'
	@echo 'make lint     check style and types'
	@echo 'make clean    remove .venv and caches (compiled mmcv wheels stay in ~/.cache/metaheads)'
	@echo
	@echo 'Variables, for all of them:'
	@echo '  HOST=mmdet|detectron2   which host the demo uses (now: $(HOST))'
	@echo '  JOBS=n                  processes of make test (at most 8; otherwise one per core)'
	@echo "  PYTHON=/path/to/python  use this interpreter's environment instead of .venv"
	@echo '  TORCH_INDEX=url         package index for torch and torchvision, for example'
	@echo '                          https://download.pytorch.org/whl/cpu'
	@echo '  DETECTRON2=source       where Detectron2 comes from: anything pip accepts'

setup:
	@command -v "$(or $(PYTHON),python3)" > /dev/null || { \
	  echo 'make setup: $(or $(PYTHON),python3) is not here; Python 3.11 or 3.12 is needed:' \
	    'sudo apt-get install python3 python3-venv' >&2; exit 1; }
	@"$(or $(PYTHON),python3)" tools/setup_environment.py $(if $(PYTHON),--in-place) \
	  --torch-index='$(TORCH_INDEX)' --detectron2='$(DETECTRON2)'

demo: setup
	@"$(PY)" tools/run_demo.py --host "$(HOST)" $(ARGS)

test: setup
	@"$(PY)" -m pytest -rs -n "$(JOBS)" --maxprocesses 8 --dist loadfile $(ARGS)

lint: setup
	@"$(PY)" -m ruff check .
	@"$(PY)" -m ruff format --check .
	@"$(PY)" -m mypy

clean:
	rm -rf .venv build dist plugins/*.egg-info .pytest_cache .ruff_cache .mypy_cache
	find plugins tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
