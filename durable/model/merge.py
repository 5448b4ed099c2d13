"""Combines what the arms of a parallel have made of the same data, in its JSON form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from durable.errors import MergeConflict

_ABSENT: Any = object()


def merge(base: Any, results: Iterable[tuple[str, Any]], *, deep: bool) -> Any:
    """*base* with what each of *results* (arm, data) has changed in it.

    Objects are merged key by key, at any depth; a key that an arm left out is kept. Two arms that give the same place
    different values are a `MergeConflict` when *deep*, else the later one wins. Data other than an object can be
    changed by one arm alone, or (not *deep*) by the last.
    """
    merged, by = base, dict[tuple[str, ...], str]()
    for arm, data in results:
        merged = _merged(base, merged, data, arm, (), by, deep)
    return merged


def _merged(
    base: Any, merged: Any, data: Any, arm: str, place: tuple[str, ...], by: dict[tuple[str, ...], str], deep: bool
) -> Any:
    if _adds_nothing(data, base):
        return merged
    if all(isinstance(side, dict) or side is _ABSENT for side in (base, merged)) and isinstance(data, dict):
        before = cast("Mapping[str, Any]", {} if base is _ABSENT else base)
        whole: dict[str, Any] = {} if merged is _ABSENT else dict(cast("dict[str, Any]", merged))
        if merged is _ABSENT:
            by[place] = arm
        for key, value in cast("dict[str, Any]", data).items():
            whole[key] = _merged(before.get(key, _ABSENT), whole.get(key, _ABSENT), value, arm, (*place, key), by, deep)
        return whole
    first = by.setdefault(place, arm)
    if deep and merged is not _ABSENT and not _same(merged, base) and not _same(merged, data):
        where = "/".join(place) or "the data"
        other = first if first != arm else _changed_within(by, place, arm)
        raise MergeConflict(
            f"arms {other!r} and {arm!r} both changed {where!r}. Let each arm change its own keys, or combine them with "
            'into=, or give merge="last_wins".'
        )
    by[place] = arm
    return data


def _changed_within(by: Mapping[tuple[str, ...], str], place: tuple[str, ...], arm: str) -> str:
    """The arm that changed something inside *place* before."""
    inside = (who for where, who in by.items() if where[: len(place)] == place and who != arm)
    return next(inside, arm)


def _adds_nothing(data: Any, base: Any) -> bool:
    """Whether *data* changes nothing in *base*: what it leaves out is kept."""
    if isinstance(data, dict) and isinstance(base, dict):
        before = cast("dict[str, Any]", base)
        items = cast("dict[str, Any]", data).items()
        return all(key in before and _adds_nothing(value, before[key]) for key, value in items)
    return _same(data, base)


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 is neither true nor 1.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        left, right = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    if isinstance(one, list):
        left_items, right_items = cast("list[Any]", one), cast("list[Any]", other)
        return len(left_items) == len(right_items) and all(map(_same, left_items, right_items))
    return one is other or one == other
