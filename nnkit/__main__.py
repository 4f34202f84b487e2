"""`python -m nnkit` is `nnkit`."""

from nnkit.cli.main import main

if __name__ == "__main__":
    main()
