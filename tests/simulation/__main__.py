"""``python -m tests.simulation --seeds 0:1000``; ``--trace`` tells all that was done of one seed.

Run with PYTHONHASHSEED=0: a seed gives the same orders only with the same order of sets.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from tests.simulation.sabotage import PLANTS, planted
from tests.simulation.scenario import play


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.simulation")
    parser.add_argument("--seeds", default="0:200", help="the first, and the one after the last")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--plant", choices=PLANTS, help="a fault, to see it found; stops at the first seed that does")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition(":")
    seeds = range(int(first), int(last) if last else int(first) + 1)
    total: Counter[str] = Counter()
    broken = 0
    began = time.monotonic()
    with planted(arguments.plant):
        for report in play(seeds, print if arguments.trace else None):
            for name in (
                "executions",
                "statements",
                "callbacks",
                "kills",
                "freezes",
                "crashes",
                "partings",
                "cut",
                "seconds",
            ):
                total[name] += getattr(report, name)
            if report.violations:
                broken += 1
                print(f"seed {report.seed}: " + "\n    ".join(report.violations))
            if broken and arguments.plant:
                break
    took = time.monotonic() - began
    print(
        f"{len(seeds)} seeds, {broken} with violations, {took:.1f} s: "
        + ", ".join(f"{v:.0f} {k}" for k, v in total.items())
    )
    return 1 if broken else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # what was killed stays as it is
