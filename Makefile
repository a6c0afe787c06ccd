.DEFAULT_GOAL := help
.PHONY: help setup quickstart test lint format clean

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

help: ## Show this help
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(INSTALLED) ## Make a virtual environment in .venv with the package and all it needs

$(INSTALLED): setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

quickstart: setup ## Train, test and use a topic classifier and a Japanese tagger
	$(BIN)/python scripts/quickstart.py

test: setup ## Run the tests and the examples in the docstrings
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## Bring the code into form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the virtual environment and everything that was produced
	rm -rf $(VENV) outputs build dist *.egg-info .hypothesis .mypy_cache .ruff_cache
