"""What a node may return besides data (`Goto`), and what it is told of the parts that ran inside it (`Ok`, `Err`).

Plain values: they are made by the interpreter or by a step, and nothing here acts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, overload

from typing_extensions import TypeVar

from durable.model.failure import Failure

T = TypeVar("T", default=Any)


@dataclass(frozen=True, slots=True)
class Goto:
    """Return it from a decision, or from an `into`, to go on with the node called *target* of the same block, forwards or
    backwards. *data* is what that node gets; None leaves the data as it was."""

    target: str
    data: Any = None


@dataclass(frozen=True, slots=True)
class Ok(Generic[T]):
    """A part that succeeded. `value` is what its last step returned, None included."""

    value: T
    ok: ClassVar[Literal[True]] = True


@dataclass(frozen=True, slots=True)
class Err:
    """A part that failed for good. `error` is the recorded failure."""

    error: Failure
    ok: ClassVar[Literal[False]] = False


class ArmResults(Mapping[str, "Ok[Any] | Err"]):
    """How the arms of a parallel ended, by key, in the order of their declaration."""

    __slots__ = ("_results",)

    def __init__(self, results: Mapping[str, Ok[Any] | Err]) -> None:
        self._results = dict(results)

    @property
    def ok(self) -> dict[str, Any]:
        """The values of the arms that succeeded, by key."""
        return {key: result.value for key, result in self._results.items() if isinstance(result, Ok)}

    @property
    def errors(self) -> dict[str, Failure]:
        """The failures of those that did not, by key."""
        return {key: result.error for key, result in self._results.items() if isinstance(result, Err)}

    def __getitem__(self, key: str) -> Ok[Any] | Err:
        return self._results[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def __repr__(self) -> str:
        return f"ArmResults({self._results!r})"


class ItemResults(Sequence["Ok[Any] | Err"]):
    """How the items of a foreach ended, in the order of the items, whatever the order in which they finished."""

    __slots__ = ("_results",)

    def __init__(self, results: Sequence[Ok[Any] | Err]) -> None:
        self._results = list(results)

    @property
    def ok(self) -> list[Any]:
        """The values of the items that succeeded."""
        return [result.value for result in self._results if isinstance(result, Ok)]

    @property
    def errors(self) -> list[Failure]:
        """The failures of those that did not."""
        return [result.error for result in self._results if isinstance(result, Err)]

    @overload
    def __getitem__(self, index: int) -> Ok[Any] | Err: ...
    @overload
    def __getitem__(self, index: slice) -> list[Ok[Any] | Err]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    def __repr__(self) -> str:
        return f"ItemResults({self._results!r})"
