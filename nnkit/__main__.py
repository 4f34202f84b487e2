"""`python -m nnkit` is `nnkit`."""

from nnkit.cli.program import run

if __name__ == "__main__":
    run()
