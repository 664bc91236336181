# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: venv demo test quick check lint docs papers pictures bench wheel clean
# Small nets gain nothing from several threads, and tests run side by side. Compiled modules are kept:
# every worker and every process of a test reads them again.
WORKERS := 6
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest
TEST := $(PYTEST) -n $(WORKERS)
AGAIN := $(PYTEST) -n 0 -v --last-failed --last-failed-no-failures none

# What test_sanitizers.py builds, on the core that pip leaves idle; the test shows what goes wrong.
SANITIZED := for kind in address,undefined thread; do \
	build=build/sanitizers-$$(echo $$kind | tr , -); \
	$(BIN)/cmake -S . -B $$build -DSTREAMTAG_SANITIZE=$$kind -DSTREAMTAG_WERROR=ON && \
	$(BIN)/cmake --build $$build; done

venv: $(VENV)/.ready

# torch first and alone, pinned: anything else that asks for torch then finds it there.
$(VENV)/.ready: pyproject.toml constraints.txt CMakeLists.txt $(wildcard csrc/*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "streamtag needs Python 3.11 or newer; name one with `make PYTHON=python3.12 …`")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch numpy
	$(BIN)/pip install -q -c constraints.txt scikit-build-core pybind11 cmake ninja
	$(if $(filter test,$(MAKECMDGOALS)),$(SANITIZED) > $(VENV)/sanitized.log 2>&1 &) \
	$(BIN)/pip install -q -c constraints.txt --no-build-isolation -e '.[dev,docs,bench,train,web,mqtt,osc,nats,alerts,parquet,archive,signatures]'; \
	installed=$$?; wait; exit $$installed
	touch $@

demo: venv
	$(BIN)/streamtag demo --web

# mypy works beside the tests, half a minute on an empty cache; its verdict comes last if it is bad.
# The tests are compiled once, or every worker would.
# Tests that fail run once more, one after the other, and both results are printed. Whoever fails
# again fails the target.
test: venv lint
	@$(BIN)/mypy > $(VENV)/mypy.log 2>&1 & types=$$!; \
	$(PYTEST) --collect-only > $(VENV)/collected.log 2>&1; \
	$(TEST) || { [ $$? -eq 1 ] && \
		printf '\nmake test: SOME TESTS FAILED beside others (above). Each runs once more, alone:\n' && \
		$(AGAIN); }; tests=$$?; \
	wait $$types || { cat $(VENV)/mypy.log; exit 1; }; \
	exit $$tests

# The inner loop: all but the slow tests.
quick: venv
	$(TEST) -m "not slow"

docs: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Every figure of the five papers that needs none of their audio, as published and as it is here.
papers: venv
	$(BIN)/python docs/papers.py

# The pictures of docs/img, made by the browser of the tests (Debian's chromium).
pictures: venv
	$(BIN)/python docs/pictures.py

check: lint
	$(BIN)/mypy

lint: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'csrc/*.hpp' 'csrc/*.cpp' 'csrc/**/*.cpp')

bench: venv
	for b in $(filter-out benchmarks/rows.py benchmarks/nets.py benchmarks/soak.py benchmarks/soak_workers.py benchmarks/wall.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$b || exit 1; done

wheel: venv
	$(BIN)/pip wheel -q --no-deps -w dist .

clean:
	rm -rf build dist $(VENV)
