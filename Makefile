# Every target builds the virtual environment that it needs; the second time that is quick.
#
# PYTHON  the interpreter of the environment: make test PYTHON=python3.13 VENV=.venv313
# VENV    its folder
# ARGS    arguments of `test`, `bench` and `nox`: make test ARGS="tests/patching -x"

SUITABLE = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHONS := python3 python3.13 python3.12 python3.11
PYTHON ?= $(firstword $(foreach name,$(PYTHONS),$(shell $(name) -c '$(SUITABLE)' 2>/dev/null && echo $(name))) python3)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test coverage check format lint imports types workflows docs bench nox dist display clean

demo: $(INSTALLED)
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || [ "$$(uname)" != Linux ]; then \
		echo "demo: napari starts, which takes some seconds" >&2; \
		$(BIN)/python -m napari_patchset.plugin; \
	else \
		echo "demo: there is no display; the sample is exported instead of shown" >&2; \
		$(BIN)/patchset demo; \
	fi

# Otherwise each of the processes that the tests start would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

# All tests run on every core, each worker with a virtual display of its own; chosen ones on one core.
test: $(INSTALLED) display
	$(BIN)/python -m pytest $(or $(ARGS),--numprocesses=logical --dist=worksteal)

coverage: $(INSTALLED) display
	$(BIN)/python -m pytest --numprocesses=logical --dist=worksteal --cov --cov-report=term-missing:skip-covered

check: format lint imports types workflows

format: $(INSTALLED)
	$(BIN)/ruff format --check

lint: $(INSTALLED)
	$(BIN)/ruff check

imports: $(INSTALLED)
	$(BIN)/lint-imports

# What the standard library offers differs between systems; a cache for each keeps this quick.
types: types-linux types-win32 types-darwin
types-%: $(INSTALLED)
	$(BIN)/mypy --platform $* --cache-dir .mypy_cache/$*

workflows: $(INSTALLED)
	$(BIN)/actionlint

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(INSTALLED)
	$(BIN)/python benchmarks/run.py $(ARGS)

# The package in other environments: see noxfile.py.
nox: $(INSTALLED) display
	$(BIN)/nox $(ARGS)

dist: $(INSTALLED)
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

display:
	@tools/display

$(INSTALLED): pyproject.toml $(BIN)/python
	@echo "Installing into $(VENV), which takes some minutes the first time" >&2
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[napari]' --group dev
	@touch $@

# Debian's Python has no ensurepip unless python3-venv is installed.
$(BIN)/python:
	@$(PYTHON) -c '$(SUITABLE)' || { echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || tools/apt $(notdir $(PYTHON))-venv
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf .venv* .nox build dist site demo
