"""How fast, how soon, how small: measured on this machine, beside floors that are measured in the same run.

Figures of one machine say little about another; the ratios to the floors do. `python -m benchmarks --help`.
"""
