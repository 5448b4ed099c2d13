"""Workers of several hosts, each with its own way to the database. One is cut off without a word, as by a switch that dies."""

from __future__ import annotations

import contextlib
import sys

from durable import Durable
from tests.support.crew import Crew, first_to_say
from tests.support.flows import planned, three
from tests.support.ledger import Ledger
from tests.support.proxy import Proxy

LEASE = 2.0
# Linux has all of 127/8 on its loopback; others have one address.
ADDRESSES = [f"127.0.0.{n + 2 if sys.platform == 'linux' else 1}" for n in range(3)]


async def test_a_host_that_is_cut_off_stops_its_steps_and_others_go_on_until_it_comes_back(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        ways = [
            await stack.enter_async_context(Proxy(crew.dsn, own_thread=True, address=address)) for address in ADDRESSES
        ]
        hosts = [await crew.start(dsn=way.dsn, lease=LEASE, ledger_dsn=crew.dsn) for way in ways]
        handles = await client.start_many(three, [planned(two={"hold_first": 4}) for _ in range(6)])
        lost = await first_to_say(hosts, "begin", path="two")
        way = ways[hosts.index(lost)]
        way.half_open()
        way.refuse()
        await lost.message("cancelled", path="two", timeout=30)  # it stops by itself, before its lease is over
        for other in hosts:
            if other is not lost:
                other.terminate()
        late = await crew.start(lease=LEASE)
        for handle in handles:
            assert (await handle.result(60))["last"] == 1
        assert not await ledger.begun_after_their_record()

        way.accept()
        late.terminate()
        await late.wait()
        again = await client.start(three, planned(), id="again")
        await again.result(60)
        assert {entry.pid for entry in await ledger.entries("again")} == {lost.pid}
