"""Who in an execution gets which message."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from durable.engine.inbox import Inbox, Message, Wanted


def wanted(order: int, *topics: str, every: bool = False) -> Wanted:
    return Wanted(topics, every, order, lambda: None)


async def numbers(inbox: Inbox, *waits: Wanted) -> list[list[int] | None]:
    """The numbers of the messages that each wait was given."""
    for wait in waits:
        inbox.want(wait)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    def of(answer: Sequence[Message] | None) -> list[int] | None:
        return None if answer is None else [message.number for message in answer]

    return [of(wait.answer) for wait in waits]


async def test_of_several_waits_the_one_registered_first_gets_the_message() -> None:
    inbox = Inbox()
    inbox.put([Message(1, "go", "1")])
    assert await numbers(inbox, wanted(9, "go"), wanted(4, "go"), wanted(7, "go")) == [None, [1], None]


async def test_each_wait_gets_the_earliest_message_that_is_left() -> None:
    inbox = Inbox()
    inbox.put([Message(3, "go", "3"), Message(2, "other", "2"), Message(1, "go", "1")])
    assert await numbers(inbox, wanted(1, "go"), wanted(2, "go", "other"), wanted(3, "go")) == [[1], [2], [3]]


async def test_a_wait_for_all_takes_nothing_until_it_can_have_all() -> None:
    inbox, both = Inbox(), wanted(1, "a", "b", every=True)
    inbox.put([Message(1, "a", "1")])
    assert await numbers(inbox, both, wanted(2, "a")) == [None, [1]]
    inbox.put([Message(2, "a", "2"), Message(3, "b", "3")])
    assert await numbers(inbox) == []
    assert both.answer is not None
    assert [message.number for message in both.answer] == [2, 3]


async def test_what_a_wait_was_given_and_left_is_there_for_others() -> None:
    inbox, first, second = Inbox(), wanted(1, "go"), wanted(2, "go")
    inbox.put([Message(1, "go", "1")])
    assert await numbers(inbox, first, second) == [[1], None]
    inbox.leave(first)
    assert await numbers(inbox) == []
    assert second.answer is not None
