PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY ?= passive

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo test test-vllm test-newest lint docs bench clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The pip that comes with Python 3.11 takes a minute longer to choose the versions.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --upgrade pip

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	# Inspect brings docstring_parser, which writes over the folder of pydoclint's fork; the fork serves both.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --force-reinstall --no-deps docstring_parser_fork
	touch $@ $(VENV)/.installed

install: $(VENV)/.installed ## install the package into .venv
install-dev: $(VENV)/.installed-dev ## install with everything tests and lint need

demo: install ## install, then audit the embedded model and write a report
	$(BIN)/refusal-lens demo

test: install-dev ## install, then run the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# vLLM pins other versions than ours, so it stands in an environment of its own that sees the project's.
.venv-vllm/.installed: constraints-vllm.txt | $(BIN)/python
	$(BIN)/python -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r constraints-vllm.txt
	$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % sysconfig.get_path('purelib'))" \
	  > "$$(.venv-vllm/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/project.pth"
	touch $@

test-vllm: install-dev .venv-vllm/.installed ## install vLLM beside the project (650 MB) and compare its answers with ours
	.venv-vllm/bin/python -m pytest -q tests/integration/test_vllm_engine.py

# What a user's `pip install` gets today: constraints.txt says nothing of versions that came after it.
NEWEST_TESTS ?= tests/unit/test_model_*.py tests/integration/test_model_*.py tests/integration/test_interventions_*.py tests/integration/test_directions_sweep.py
test-newest: ## install the newest libraries (7 GB) into .venv-newest, without constraints, and test what depends on transformers there
	test -x .venv-newest/bin/python || $(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager -e '.[test]'
	.venv-newest/bin/python -m pip list | grep -E '^(torch|transformers|tokenizers) '
	.venv-newest/bin/python -m pytest -q $(NEWEST_TESTS)

lint: install-dev ## ruff, pyright, docstrings, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error
	$(BIN)/pydoclint --quiet src
	$(BIN)/lint-imports

docs: install-dev ## build the documentation into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: install-dev ## measure speed against the published procedure
	$(BIN)/python -m bench

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis src/*.egg-info
