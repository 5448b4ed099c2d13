"""Durable beside its peers: the same work, on the same PostgreSQL, in turns, each peer in an environment of its own.

`python -m benchmarks.peers --help`. A peer is one file here; `roster.py` says what such a file holds, `workloads.py` what is
asked of it.
"""
