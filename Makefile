# Every target does its own set-up; the second time it is quick.
VENV ?= .venv
BIN := $(VENV)/bin
export VENV

.PHONY: demo test check bench packages setup clean

demo: setup
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ]; then \
		echo "demo: napari starts, which takes some seconds" >&2; \
		$(BIN)/python -m napari_patchset.plugin; \
	else \
		echo "demo: there is no display; the sample is exported instead of shown" >&2; \
		$(BIN)/patchset demo; \
	fi

test: setup
	tools/display $(BIN)/python -m pytest $(ARGS)

check: setup
	$(BIN)/ruff format --check src tests benchmarks docs examples
	$(BIN)/ruff check src tests benchmarks docs examples
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python benchmarks/run.py $(ARGS)

packages: setup
	tools/packages $(ARGS)

setup:
	@tools/setup

clean:
	rm -rf .venv* build dist demo
