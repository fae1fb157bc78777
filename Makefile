# make app    install what is needed, then start the app in the browser
# make test   install what is needed, then run every test
# make check  format, lint, types, knowledge base, generated tables of the README

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8501
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
INSTALLED := $(VENV)/.installed

.PHONY: install app test check format clean
.DEFAULT_GOAL := app

install: $(INSTALLED)

# Installed again only when what is wanted has changed.
# 1. torch comes first and alone, pinned: a CPU build that pip is told of (PIP_FIND_LINKS or an index of your own) is
#    then taken, and no later requirement replaces it by the newest CUDA build.
# 2. onnx2torch asks for torchvision, whose wheels belong to one torch build each and are used here by nothing. So it
#    comes without its dependencies; the others it has (onnx, numpy, torch) are there already.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "XAI Atlas needs Python 3.11 or newer; say which one: make PYTHON=python3.11"; exit 2; }
	@echo "Installing into $(VENV), a few minutes the first time …"
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable '.[monai,huggingface,mcp,dev]' onnx onnxruntime
	$(PIP) --no-deps onnx2torch
	@touch $@

app: $(INSTALLED)
	$(BIN)/streamlit run app.py --server.headless true --server.port $(PORT)

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses auto $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/xai-atlas check
	$(BIN)/codespell kb docs taxonomy experiments views benchmarks *.py *.md
	$(BIN)/python docs/readme.py --check

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
