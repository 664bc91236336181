# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: venv demo test quick check docs papers bench wheel clean
# Small nets gain nothing from several threads, and tests run side by side.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3

venv: $(VENV)/.ready

# torch first and alone, pinned: anything else that asks for torch then finds it there.
$(VENV)/.ready: pyproject.toml constraints.txt CMakeLists.txt $(wildcard csrc/*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "streamtag needs Python 3.11 or newer; name one with `make PYTHON=python3.12 …`")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch numpy
	$(BIN)/pip install -q -c constraints.txt scikit-build-core pybind11 cmake ninja
	$(BIN)/pip install -q -c constraints.txt --no-build-isolation -e '.[dev,docs,bench,train,web,mqtt,osc,parquet]'
	touch $@

demo: venv
	$(BIN)/streamtag demo

test: venv check
	$(TEST)

# The inner loop: all but the slow tests.
quick: venv
	$(TEST) -m "not slow"

docs: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Every figure of the five papers that needs none of their audio, as published and as it is here.
papers: venv
	$(BIN)/python docs/papers.py

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'csrc/*.hpp' 'csrc/*.cpp' 'csrc/**/*.cpp')

bench: venv
	for b in $(filter-out benchmarks/rows.py benchmarks/nets.py benchmarks/soak.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$b || exit 1; done

wheel: venv
	$(BIN)/pip wheel -q --no-deps -w dist .

clean:
	rm -rf build dist $(VENV)
