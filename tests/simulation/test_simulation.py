"""Thousands of simulated lives keep their promises; and the simulation sees it when one is broken."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.sabotage import PLANTS

SEEDS = 250  # in each part
# Up to how many seeds are looked at for a planted fault, and from which on, where few show it. Which do, changes with the
# engine: that the first is near makes it quick.
LOOKED_AT = 2_000
SHOWN_FROM = {"no fence": 1_600, "a lapse that nobody sees": 460}


def simulate(*arguments: str, limit: float) -> subprocess.CompletedProcess[str]:
    """In a process of its own, for it takes over its interpreter, and needs the same order of sets each time."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit, check=False)


@pytest.mark.parametrize("part", range(8))
def test_whatever_breaks_and_in_whatever_order_everything_ends_as_it_should(part: int) -> None:
    ran = simulate("--seeds", f"{part * SEEDS}:{(part + 1) * SEEDS}", limit=600)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.stress
@pytest.mark.parametrize("part", range(20))
def test_whatever_breaks_and_in_whatever_order_everything_ends_as_it_should_for_long(part: int) -> None:
    ran = simulate("--seeds", f"{10_000 + part * 1_000}:{10_000 + (part + 1) * 1_000}", limit=1_200)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("plant", PLANTS)
def test_a_fault_that_is_planted_is_found(plant: str) -> None:
    first = SHOWN_FROM.get(plant, 0)
    ran = simulate("--seeds", f"{first}:{first + LOOKED_AT}", "--plant", plant, limit=600)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "seed" in ran.stdout


def test_a_seed_gives_the_same_life_each_time() -> None:
    first, second = (simulate("--seeds", "3:6", "--trace", limit=120).stdout.splitlines()[:-1] for _ in range(2))
    assert len(first) > 500
    assert first == second
