# Each target does its own set-up: `make demo` and `make test` work on a fresh clone with Python 3.10+, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two spinning OpenMP threads on a shared machine make everything far slower; passive waiting costs next to nothing.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test test-sanitize lint format docs bench clean

$(VENV)/installed: pyproject.toml CMakeLists.txt $(shell find csrc -type f)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: $(VENV)/installed
	$(BIN)/crowdseg demo

test: lint
	$(BIN)/python -m pytest

# The CPU kernels, in every instruction set, under GCC's address and undefined-behaviour sanitizers: built into an environment
# of their own, which borrows the packages of the first. Leaks are not looked for: Python's and torch's hide ours.
SANITIZE := build/sanitize
test-sanitize: $(VENV)/installed
	test -x $(SANITIZE)/bin/python || $(BIN)/python -m venv $(SANITIZE)
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > \
		$$(echo $(SANITIZE)/lib/python*/site-packages)/borrowed.pth
	$(SANITIZE)/bin/python -m pip install --quiet --no-deps --editable . -C build-dir=$(SANITIZE)/objects \
		-C cmake.define.CROWDSEG_SANITIZE=ON -C cmake.define.CROWDSEG_CUDA=OFF -C install.strip=false
	export LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so.6)"; \
	export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 CROWDSEG_OPS=native; \
	$(SANITIZE)/bin/python -c "import torch, crowdseg._cpu as kernels; assert 'sanitize' in kernels.build" && \
	for set in base avx2 avx512; do \
		CROWDSEG_ISA=$$set $(SANITIZE)/bin/python -m pytest --capture=sys tests/ops -k native || exit 1; \
	done

lint: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/installed
	$(BIN)/python -m mkdocs build
	@echo build/site/index.html

bench: $(VENV)/installed
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
