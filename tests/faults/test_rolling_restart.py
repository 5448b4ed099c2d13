"""A deploy: web processes with workers in them are replaced one by one while requests come in."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

import httpx

from durable import Durable
from tests.support.crew import Crew, Program
from tests.support.flows import planned
from tests.support.ledger import Ledger

PROCESSES = 4
ORDERS_MIN = 200
SENDERS = 4


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


async def _serve(crew: Crew, port: int) -> Program:
    arguments = ("tests.support.programs.web:app", "--host", "127.0.0.1", "--port", port, "--log-level", "warning")
    return await crew.run_program("uvicorn", *arguments, DURABLE_DATABASE_URL=crew.dsn)


class _Load:
    """Sends orders one after the other, each until some process has acknowledged it."""

    def __init__(self, http: httpx.AsyncClient, ports: list[int]) -> None:
        self._http = http
        self._ports = ports
        self._number = 0
        self.acknowledged: dict[str, int] = {}
        self.refused = Counter[str]()
        self.last = False

    async def send(self) -> None:
        while not self.last or len(self.acknowledged) < ORDERS_MIN:
            self._number += 1
            await self._order(self._number)
            await asyncio.sleep(0.1)  # a load, not a flood

    async def _order(self, number: int) -> None:
        body = planned(one={"hold": 0.05 + number % 4 * 0.05}, two={"hold": 0.05})
        for port in [*self._ports[number % PROCESSES :], *self._ports] * 50:
            try:
                answer = await self._http.post(f"http://127.0.0.1:{port}/orders/order-{number}", json=body)
            except httpx.TransportError as error:
                self.refused[type(error).__name__] += 1
                continue
            assert answer.status_code == 202, answer.text
            self.acknowledged[answer.json()["id"]] = number
            return
        raise AssertionError(f"order {number} found nobody: {self.refused}")


async def test_nothing_acknowledged_is_lost_and_no_step_overlaps_itself_in_a_rolling_restart(
    crew: Crew, client: Durable, ledger: Ledger
) -> None:
    ports = _free_ports(PROCESSES)
    programs = list(await asyncio.gather(*(_serve(crew, port) for port in ports)))
    async with httpx.AsyncClient(timeout=30) as http, asyncio.TaskGroup() as senders:
        load = _Load(http, ports)
        for _ in range(SENDERS):
            senders.create_task(load.send())
        for index, port in enumerate(ports):
            programs[index].terminate()
            await programs[index].message("stopped", timeout=60)
            await programs[index].wait()
            programs[index] = await _serve(crew, port)
        load.last = True

    assert len(load.acknowledged) >= ORDERS_MIN
    for order in load.acknowledged:
        result = await client.handle(order).result(60)
        assert (result["one"], result["two"], result["last"]) == (1, 1, 1), order
    assert await ledger.overlapping_bodies() == []
    assert await ledger.begun_after_their_record() == []
    ran_in = await ledger.connection.fetch("select distinct pid from public.ledger")
    assert len(ran_in) > PROCESSES, "old and new processes both had a share"
