"""`python -m stkit`."""

from stkit.cli import main

if __name__ == "__main__":
    main()
