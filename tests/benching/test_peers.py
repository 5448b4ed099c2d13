"""The comparison with peers: what their files say, how figures are told, and that durable's own file still runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import process, report
from benchmarks.peers import charts, figures, roster
from benchmarks.peers.figures import Results
from benchmarks.peers.workloads import WORKLOADS, Stage
from tests.support import processes
from tests.support.postgres import Cluster

PEERS = {name: roster.read(name) for name in roster.NAMES}
COUNTS = dict.fromkeys(WORKLOADS, 20) | {"start_fifty": 100, "fan_out": 1, "events": 2}


def results() -> Results:
    """Two rounds: of rates, of latencies, and of what only some can do."""
    found = Results(list(PEERS.values()), WORKLOADS)
    for ours, theirs in ((3_000.0, 100.0), (2_000.0, 50.0)):
        found.add("one_step", "durable", ours)
        found.add("one_step", "dbos", theirs)
        found.add("one_step", "absurd", theirs * 2)
    for seconds in ([0.001, 0.002, 0.001], [0.001, 0.001, 0.009]):
        found.add("latency_away", "durable", seconds)
        found.add("latency_away", "dbos", [second * 10 for second in seconds])
    found.failures["latency_away", "absurd"] = "TimeoutError: it did not say {'kind': 'result'}"
    return found


@pytest.mark.parametrize("peer", [peer for peer in PEERS.values() if peer.name != "floor"], ids=lambda peer: peer.name)
def test_a_peer_says_of_every_workload_what_it_runs_or_why_it_cannot(peer: roster.Peer) -> None:
    assert sorted([*peer.runs, *peer.cannot]) == sorted(WORKLOADS)
    assert set(peer.counts) <= set(peer.runs)


@pytest.mark.parametrize("peer", PEERS.values(), ids=lambda peer: peer.name)
def test_what_a_peer_requires_is_pinned(peer: roster.Peer) -> None:
    assert all("==" in requirement for requirement in peer.requires)


def test_a_file_that_does_not_say_what_it_is_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stranger.py").write_text("NAME = 'stranger'\n")
    with pytest.raises(ValueError, match="there is no ABOUT"):
        roster.read("stranger", tmp_path)


def test_ratios_are_the_medians_of_the_rounds_and_more_is_always_better_for_durable() -> None:
    assert results().ahead("one_step", "dbos") == 35
    assert results().ahead("latency_away", "dbos") == 10
    assert results().ahead("latency_away", "absurd") is None


def test_the_best_peer_is_the_fastest_that_is_not_durable_itself() -> None:
    best = results().best("one_step")
    assert best is not None
    assert best.name == "absurd"


def test_tables_show_rates_and_both_percentiles_and_tell_failed_from_left_out() -> None:
    shown, ratios, _ = figures.tables(results())
    assert shown.rows == [
        ("executions of one step, /s", "2,500", "75", "150", "-", "-", "-"),
        (
            "start to result, worker in another process, p50 / p99 ms",
            "1.0 / 9.0",
            "10.0 / 90.0",
            "failed",
            "-",
            "-",
            "-",
        ),
    ]
    assert ratios.rows[0][1:3] == ("35x", "17.5x")
    assert ratios.rows[0][-1] == "17.5x (Absurd)"


def test_processor_time_is_the_median_of_each_side_in_microseconds() -> None:
    found = results()
    found.processor["durable"] = {"one_step": [(1e-4, 2e-5), (2e-4, 1e-5), (3e-4, 9e-5)]}
    assert figures.tables(found)[2].rows == [("executions of one step", "200 + 20", "-", "-", "-", "-", "-")]


def test_the_processor_time_of_a_process_grows_as_it_works() -> None:
    before = process.processor(os.getpid())
    if before is None:
        pytest.skip("there is no /proc here")
    while process.processor(os.getpid()) == before:
        pass


def test_no_parent_is_told_of_a_process_that_is_not_the_one_that_was_meant() -> None:
    assert process.parent(os.getpid(), "postgres") is None


def test_what_was_left_out_and_what_failed_is_said_with_its_reason() -> None:
    text = figures.notes(results(), dict.fromkeys(PEERS, "1.0"))
    assert "- left out, no steps: executions of one step" in text
    assert "- failed, start to result, worker in another process: TimeoutError" in text


def test_the_section_of_the_peers_and_the_other_results_do_not_wipe_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "RESULTS.md"
    monkeypatch.setattr(report, "RESULTS", path)
    report.write([("date", "today")], [], 3)
    figures.write("# first", path)
    figures.write("# second", path)
    report.write([("date", "tomorrow")], [], 3)
    text = path.read_text()
    assert "tomorrow" in text
    assert "today" not in text
    assert text.count("<!-- peers: begin -->\n# second\n<!-- peers: end -->") == 1
    assert "# first" not in text


def test_charts_are_drawn_to_scale_for_what_was_measured_alone() -> None:
    drawn = charts.draw(results())
    assert sorted(drawn) == ["latency.svg", "throughput.svg"]
    picture = ElementTree.fromstring(drawn["throughput.svg"][0])
    ours, dbos, absurd = [float(bar.attrib["width"]) for bar in picture.iter("{http://www.w3.org/2000/svg}rect")]
    assert ours / dbos == pytest.approx(2_500 / 75, rel=0.01)
    assert ours / absurd == pytest.approx(2_500 / 150, rel=0.01)


def test_a_worker_does_not_outlive_the_harness(tmp_path: Path) -> None:
    worker = [sys.executable, "-m", "benchmarks.peers.floor", "work", "--dsn", "none", "--gate", str(tmp_path / "gate")]
    code = f"import subprocess; subprocess.run({worker!r}, start_new_session=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=processes.ROOT) as harness:
        assert harness.stdout
        assert b"ready" in harness.stdout.readline()
        harness.kill()
        assert harness.stdout.read() == b""  # which returns when the last one that could write has ended


@pytest.fixture
async def stage(request: pytest.FixtureRequest, postgres_cluster: Cluster) -> AsyncIterator[Stage]:
    """A peer that needs no environment of its own, given little to do."""
    stage = Stage(postgres_cluster, replace(PEERS[request.param], counts=COUNTS), timeout=60)
    await stage.set_up()
    try:
        yield stage
    finally:
        await stage.close()


@pytest.mark.parametrize(
    ("stage", "workload"),
    [("floor", "three_steps"), *(("durable", name) for name in WORKLOADS if name not in ("one_step", "four_no_step"))],
    indirect=["stage"],
)
async def test_what_needs_no_environment_of_its_own_can_be_measured(stage: Stage, workload: str) -> None:
    figure = await WORKLOADS[workload].measure(stage, workload, 20)
    if WORKLOADS[workload].unit == "ms":
        assert len(figure) == COUNTS[workload]
        assert min(figure) > 0
    elif WORKLOADS[workload].higher:
        assert figure > 0
