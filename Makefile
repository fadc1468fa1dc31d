# Every target sets up what it needs; `make` alone lists them.
VENV := .venv
BIN := $(VENV)/bin
CARGO ?= cargo
# Peers, data (6 GB) and reports of `make bench`.
BENCH ?= target/geotessera-bench
# Cargo outside maturin would ask the first Python on PATH, which may be too old for PyO3's abi3.
export PYO3_PYTHON ?= $(abspath $(BIN)/python)

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench bench-check bench-kernels bench-layer build clean format test-rust test-python

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build ## Run the main job on an embedded sample world (about a minute)
	$(BIN)/geotessera demo

test: build ## Run the Rust and the Python tests
	@status=0; $(MAKE) --no-print-directory test-rust || status=1; \
	$(MAKE) --no-print-directory test-python || status=1; exit $$status

test-rust: $(VENV)/.installed ## Run the Rust tests (cargo-nextest where it is installed)
	@if $(CARGO) nextest --version >/dev/null 2>&1; \
	then $(CARGO) nextest run --workspace && $(CARGO) test --workspace --doc -q; \
	else $(CARGO) test --workspace; fi

test-python: build ## Run the Python tests, on all processors
	$(BIN)/python -m pytest -q -n auto --dist worksteal

lint: build ## Check format, lints, types, layers and the native stub
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m mypy.stubtest geotessera._native --mypy-config-file pyproject.toml

format: build ## Format the Rust and the Python code
	$(CARGO) fmt --all
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Peers are installed while the extension is built; without them the report says so.
bench: ## Measure the package, its peers and the machine (about 25 minutes)
	@sh benches/peers $(BENCH)/peers & peers=$$!; \
	$(MAKE) --no-print-directory build && { wait $$peers || true; } && \
	$(BIN)/geotessera bench --output $(BENCH)

bench-kernels: $(VENV)/.installed ## Time the kernels by themselves (criterion)
	$(CARGO) bench -q -p geotessera-core --bench kernels -- --quick --quiet

bench-check: $(VENV)/.installed ## Count the kernels' instructions (valgrind) against the baseline
	$(BIN)/python benches/instructions.py

bench-layer: build ## Time the Python layer (pytest-benchmark)
	$(BIN)/python -m pytest -q -p benchmark benches

build: $(VENV)/.built ## Set up .venv and build the extension (release)

RUST_SOURCES := $(shell find rust -name '*.rs' -o -name 'Cargo.toml') Cargo.toml $(wildcard Cargo.lock)

$(VENV)/.built: $(VENV)/.installed $(RUST_SOURCES)
	@command -v $(CARGO) >/dev/null 2>&1 || { \
	  echo "make: Rust is missing: 'cargo' is not on PATH. Install it with rustup (see rustup.rs) or your system's packages (rustc and cargo 1.89 or newer)." >&2; exit 1; }
	PIP_QUIET=1 $(BIN)/maturin develop --release --quiet
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt scripts/find-python
	@test -x $(BIN)/python || { python="$$(sh scripts/find-python)" || exit 1; \
	echo "Setting up $(VENV) with $$python"; "$$python" -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip -c constraints.txt
	$(BIN)/python scripts/requirements.py > $(VENV)/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r $(VENV)/requirements.txt
	@touch $@

clean: ## Remove everything that was built
	rm -rf $(VENV) target dist python/geotessera/*.so
