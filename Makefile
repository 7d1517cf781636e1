# make demo   the demo experiment: no download, no GPU, no account
# make install   .venv with the commands snakemake and vtclip
# make test   every check, and the tests that a change is tried with
# make format   formats all code as `make test` requires it
# make test-slow   the tests that `make test` leaves out because each takes long
# make test-slurm   the demo experiment on its own Slurm; requires root and Slurm's packages
# make test-backbones   builds the smallest backbone of each kind: half an hour
# make test-commands   types the commands of README and docs in a fresh clone: half an hour
# make test-faults   the long campaign of faults: takes hours
# make wheel   dist/ with the wheel and the sdist
# make release   the wheel in a new environment and an empty folder, and what to do then
# make constraints   writes the newest versions into constraints.txt; then `make test` tries them
# All create .venv first. With another Python: make demo PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
# Compiled modules are written: each test that starts a Python would compile the package again.
export PYTHONDONTWRITEBYTECODE :=
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable

.PHONY: demo install test test-slow test-slurm test-backbones test-commands test-faults check format wheel release constraints clean

demo: .venv/installed
	@$(BIN)/python -m vtclip.demo

install: .venv/installed

test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: .venv/installed-for-tests
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile

test-slurm: .venv/installed-for-slurm
	$(BIN)/python -m pytest -m slurm tests/workflow/slurm

test-backbones: .venv/installed-for-tests
	$(BIN)/python -m pytest -m backbones tests/backbones

test-commands: .venv/installed-for-tests
	$(BIN)/python -m pytest -m commands tests/docs

test-faults: .venv/installed-for-tests
	$(BIN)/python -m pytest -m faults

check: .venv/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy
	$(BIN)/snakemake --lint

format: .venv/installed-for-tests
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("vtclip needs Python 3.11 or newer; $(PYTHON) is %d.%d. Name another one: make demo PYTHON=python3.12" % v[:2])'
	test -d .venv || $(PYTHON) -m venv .venv
	$(INSTALL) .
	@touch $@

.venv/installed-for-tests: .venv/installed
	$(INSTALL) '.[test]'
	@touch $@

.venv/installed-for-slurm: .venv/installed-for-tests
	$(INSTALL) '.[test,slurm]'
	@touch $@

wheel: .venv/installed-for-tests
	rm -rf dist
	$(BIN)/python -m hatchling build

.venv/installed-for-release: .venv/installed
	$(INSTALL) '.[release]'
	@touch $@

release: wheel .venv/installed-for-release
	@test -z "$$(git status --porcelain)" || { echo "There are changes that are not committed."; exit 1; }
	$(BIN)/twine check --strict dist/*
	rm -rf .venv-release
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	cd "$$(mktemp --directory)" && $(CURDIR)/.venv-release/bin/vtclip run demo
	rm -rf .venv-release
	@printf '%s\n' "The wheel works. By hand:" \
	  "1. Compare the table with the one in README.md." \
	  "2. If CHANGELOG.md says 'not yet released', write the date there, and as date-released in" \
	  "   CITATION.cff; commit, and run this command again." \
	  "3. git tag v$$($(BIN)/python -c 'import vtclip; print(vtclip.__version__)') && git push --tags" \
	  "4. $(BIN)/twine upload dist/*" \
	  "5. The next version: vtclip/__init__.py, CITATION.cff, and a heading in CHANGELOG.md."

constraints:
	rm -rf .venv-newest
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --editable '.[onnx,release,slurm,test,transformers]'
	head -n 1 constraints.txt > constraints.new
	.venv-newest/bin/python -m pip freeze --exclude-editable --exclude pip --exclude setuptools >> constraints.new
	mv constraints.new constraints.txt
	rm -rf .venv-newest

clean:
	rm -rf dist .venv .venv-newest .venv-release .snakemake .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
