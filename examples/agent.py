"""An agent: a model is called until it has an answer; the tools that it asks for run at the same time; a person approves
what it may not do by itself.

    python -m examples.agent

The model here is a stub. Give `agent_with` a client of a real one: any async function from messages to a `Turn`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import msgspec

import durable
from durable import Durable, Retry, hours, seconds


class Message(msgspec.Struct, frozen=True):
    role: str
    text: str


class ToolCall(msgspec.Struct, frozen=True):
    tool: str
    argument: str


class Turn(msgspec.Struct, frozen=True):
    """What a model says: an answer, or which tools it wants called."""

    text: str = ""
    calls: list[ToolCall] = []


Model: TypeAlias = Callable[[list[Message]], Awaitable[Turn]]


# --- What the agent may do ----------------------------------------------------------------------------------------------


async def look_up(argument: str) -> str:
    await asyncio.sleep(0.05)
    return {"order 7": "shipped on Monday, 40 EUR", "customer": "Ada, a customer for 9 years"}.get(argument, "nothing")


async def refund(argument: str) -> str:
    return f"{argument} were paid back"


TOOLS = {"look_up": look_up, "refund": refund}
DANGEROUS = {"refund"}  # not without a person


async def use(call: ToolCall) -> str:
    if call.tool in DANGEROUS:
        decision = await durable.wait_for_approval(
            f"{call.tool} {call.argument}",
            prompt=f"The agent wants to {call.tool}: {call.argument}",
            timeout=hours(8),
            timeout_value="rejected",
        )
        if decision != "approved":
            return "a person has refused that"
    return await durable.run(TOOLS[call.tool], call.argument, name=call.tool)


def agent_with(model: Model) -> durable.Workflow[str, str]:
    """An agent that thinks with *model*. What it has said and done is recorded: a crash costs no tokens twice."""

    @durable.workflow("agent")
    async def agent(question: str) -> str:
        messages = [Message("user", question)]
        while True:
            turn = await durable.run(model, messages, name="model", retry=Retry(5, delay=seconds(1)))
            if not turn.calls:
                return turn.text
            results = await asyncio.gather(*(use(call) for call in turn.calls))
            messages += [
                Message("tool", f"{c.tool}({c.argument}): {said}") for c, said in zip(turn.calls, results, strict=True)
            ]

    return agent


# --- A model that costs nothing -----------------------------------------------------------------------------------------


async def stub(messages: list[Message]) -> Turn:
    match len(messages):
        case 1:
            return Turn(calls=[ToolCall("look_up", "order 7"), ToolCall("look_up", "customer")])
        case 3:
            return Turn(calls=[ToolCall("refund", "40 EUR")])
        case _:
            return Turn(f"Done: {messages[-1].text}")


agent = agent_with(stub)


async def main() -> None:
    async with Durable(workflows=[agent]):
        handle: durable.Handle[str] = await durable.start(agent, "My order 7 is broken.")
        pending: list[Any] = []
        while not pending:
            await asyncio.sleep(0.02)
            pending = (await durable.list_pending_inputs(workflow=agent)).items
        print(pending[0].prompt)
        await handle.provide_input(pending[0].name, "approved", by="bob@example.com")
        print(await handle.result(timeout=30))
        steps = (await durable.get_execution(handle.id, include_steps=True)).steps or []
        print([effect.key.split(":")[1] for effect in steps[0].effects if effect.kind == "ran"])


if __name__ == "__main__":
    asyncio.run(main())
