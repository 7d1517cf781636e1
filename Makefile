# make demo   the embedded experiment: no download, no GPU, no account
# make test   every check and every test
# make test-slurm   the embedded experiment on a Slurm of its own; takes root and Slurm's packages
# Both make .venv first. Another Python: make demo PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slurm check clean

demo: .venv/installed
	@$(BIN)/python -m vtclip.demo

test: check
	$(BIN)/python -m pytest

test-slurm: .venv/installed-for-slurm
	$(BIN)/python -m pytest -m slurm tests/workflow/slurm

check: .venv/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy
	$(BIN)/snakemake --lint

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("vtclip needs Python 3.11 or newer; $(PYTHON) is %d.%d. Name another one: make demo PYTHON=python3.12" % v[:2])'
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/installed-for-tests: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

.venv/installed-for-slurm: .venv/installed-for-tests
	$(BIN)/python -m pip install --quiet --editable '.[test,slurm]'
	@touch $@

clean:
	rm -rf .venv .snakemake .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
