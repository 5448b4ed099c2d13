"""Examples, one lesson a file. Each runs by itself from the root of the repository: ``python -m examples.orders``."""
