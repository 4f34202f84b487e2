# One entry for each task: `just test`. https://just.systems

# show this list
default:
    @just --list

# the fast tests
test *ARGS:
    pytest {{ARGS}}

# the slow tests
slow *ARGS:
    pytest -m slow {{ARGS}}

# style, types, spelling
lint:
    ruff check .
    ruff format --check .
    mypy
    lint-imports
    codespell

# write what is generated and mend what can be mended
fix:
    ruff check --fix .
    ruff format .
    python docs/generate.py

# check the generated pages, and build all with warnings as errors
docs:
    python docs/generate.py --check
    mkdocs build --strict

# show the pages while they are written
serve:
    mkdocs serve

# start-up, summary, counts and export beside their rivals
bench:
    python tests/benchmarks/bench_counts.py
    python tests/benchmarks/bench_sizes.py
    python tests/benchmarks/bench_startup.py
    python tests/benchmarks/bench_summary.py
    python tests/benchmarks/bench_export.py
