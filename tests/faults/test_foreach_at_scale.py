"""A foreach over ten thousand items: bounded memory, few statements, and a SIGKILL at half way costs what was in flight."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from durable import Durable
from tests.support.crew import Crew
from tests.support.flows import census
from tests.support.ledger import Ledger

ITEMS = 10_000
IN_FLIGHT = 50
GROWTH_MAX = 100 << 20
RECORDS_PER_STATEMENT_MIN = 2  # two lanes share what is recorded at the same moment


def peak_memory(pid: int) -> int:
    """The most memory that a process has ever had resident, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None, status
    return int(found[1]) << 10


def runs_by_item(log: Path) -> dict[int, list[int]]:
    """Of each item the processes that ran it, in order."""
    runs: dict[int, list[int]] = defaultdict(list)
    for line in log.read_text().splitlines():
        item, pid = map(int, line.split())
        runs[item].append(pid)
    return runs


async def test_ten_thousand_items_take_bounded_memory_and_few_statements_and_a_kill_repeats_only_what_was_in_flight(
    crew: Crew, client: Durable, ledger: Ledger, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    victim = await crew.start(lease=1.5)
    before = peak_memory(victim.pid)
    handle = await client.start(census, {"items": ITEMS, "log": str(log)}, id="census")
    await victim.message("half", 60)
    grown = [peak_memory(victim.pid) - before]
    victim.kill()
    await victim.wait()
    recorded = {row["path"] for row in await ledger.journal("census")}
    heir = await crew.start(lease=1.5)
    before = peak_memory(heir.pid)

    assert await handle.result(90) == sum(range(ITEMS))

    grown.append(peak_memory(heir.pid) - before)
    runs = runs_by_item(log)
    assert sorted(runs) == list(range(ITEMS)), "none was lost"
    repeated = {item: pids for item, pids in runs.items() if len(pids) > 1}
    assert 0 < len(repeated) <= IN_FLIGHT
    assert all(pids == [victim.pid, heir.pid] for pids in repeated.values()), repeated
    assert not {f"each[{item}]/count" for item in repeated} & recorded, "what was recorded is not run again"
    assert max(grown) < GROWTH_MAX, [f"{growth >> 20} MiB" for growth in grown]
    statements, records = await ledger.connection.fetchrow(
        "select count(distinct xmin::text), count(*) from durable.journal where path like 'each[%'"
    )
    print(
        f"{records} records in {statements} statements; grown {[f'{g >> 20} MiB' for g in grown]}; {len(repeated)} ran twice"
    )
    assert records == ITEMS
    assert records / statements >= RECORDS_PER_STATEMENT_MIN, "records of the same moment share a statement"
