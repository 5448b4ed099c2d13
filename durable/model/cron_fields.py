"""The five fields of a cron rule: what may stand in them, and what is refused because crons read it differently."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NoReturn

from durable.errors import DefinitionError

_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS: dict[str, int] = {name: number for number, name in enumerate(_MONTH_NAMES, start=1)}
_WEEKDAYS: dict[str, int] = {
    name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))
}
_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_PART = re.compile(r"(\*|\w+)(?:-(\w+))?(?:/(\d+))?")


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    least: int
    most: int
    names: dict[str, int]

    @property
    def all(self) -> set[int]:
        return set(range(self.least, self.most + 1))


_FIELDS = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of month", 1, 31, {}),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 7, _WEEKDAYS),
)
_SUNDAY = 7


@dataclass(frozen=True, slots=True)
class Fields:
    """A rule that means one thing: as numbers only, and whether its hours are ``*`` or ``*/n``."""

    normalised: str
    by_the_hour: bool


def parse(expression: Any) -> Fields:
    """Read a rule. Raises `DefinitionError`."""
    if not isinstance(expression, str) or not expression.strip():
        raise DefinitionError(f"Cron: {expression!r} is no rule. Give five fields, e.g. '0 9 * * mon-fri'.")
    text = _ALIASES.get(expression.strip().lower(), expression)
    if text.strip().startswith("@"):
        raise DefinitionError(f"Cron({expression!r}): give five fields, or one of {', '.join(_ALIASES)}.")
    given = text.split()
    if len(given) != len(_FIELDS):
        raise DefinitionError(
            f"Cron({expression!r}) has {len(given)} fields. Give five: minute, hour, day of month, month, weekday"
            " (no seconds and no years; for seconds use Every(seconds(30)))."
        )
    read = [_values(field, part, expression) for field, part in zip(_FIELDS, given, strict=True)]
    if given[2].startswith("*/") and read[4] != _weekdays(_FIELDS[4].all):
        _refuse(
            expression, _FIELDS[2], given[2], "beside a weekday means one thing here and another there: list the days"
        )
    written = [
        "*" if values == (_weekdays(field.all) if field.most == _SUNDAY else field.all) else _listed(values)
        for field, values in zip(_FIELDS, read, strict=True)
    ]
    return Fields(" ".join(written), by_the_hour=given[1].startswith("*"))


def _values(field: _Field, text: str, expression: str) -> set[int]:
    values: set[int] = set()
    for part in text.split(","):
        values |= _range(field, part, expression)
    return _weekdays(values) if field.most == _SUNDAY else values


def _range(field: _Field, part: str, expression: str) -> set[int]:
    found = _PART.fullmatch(part)
    if found is None:
        _refuse(expression, field, part, "is none of: *, a number, a range as 1-5, a step as */15, a list of those")
    first, last, step = found[1], found[2], found[3]
    if first == "*":
        if last is not None:
            _refuse(expression, field, part, "is no range")
        low, high = field.least, field.most - (field.most == _SUNDAY)
    else:
        low = _number(field, first, expression)
        high = low if last is None else _number(field, last, expression)
        if step is not None and last is None:
            _refuse(expression, field, part, f"has a step, but no range: write {first}-{field.most}/{step}")
        if last is not None and last.lower() == "sun" and low > 0:
            high = _SUNDAY
        if high < low:
            _refuse(expression, field, part, "goes backwards: write two ranges, joined by a comma")
    if step is not None and not 1 <= int(step) <= max(high - low, 1):
        _refuse(expression, field, part, f"has a step of {step}, which never comes to a second value")
    return set(range(low, high + 1, 1 if step is None else int(step)))


def _number(field: _Field, text: str, expression: str) -> int:
    number = field.names.get(text.lower(), -1)
    if text.isascii() and text.isdecimal():
        number = int(text)
    if not field.least <= number <= field.most:
        names = f", or {', '.join(field.names)}" if field.names else ""
        _refuse(expression, field, text, f"is not known: give {field.least} to {field.most}{names}")
    return number


def _weekdays(values: set[int]) -> set[int]:
    return {value % _SUNDAY for value in values}


def _listed(values: set[int]) -> str:
    return ",".join(map(str, sorted(values)))


def _refuse(expression: str, field: _Field, part: str, why: str) -> NoReturn:
    raise DefinitionError(f"Cron({expression!r}): {part!r} in the {field.name} {why}.")
