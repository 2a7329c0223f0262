"""Speed of stkit beside its own reference implementations. Run from a checkout: `python -m benchmarks.NAME`."""
