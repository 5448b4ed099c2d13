"""Retry policy: attempt and error -> the delay before the next attempt, or none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, cast

from durable.errors import DefinitionError, NonRetryable, RetryAfter

Backoff = Literal["exponential", "linear", "constant"]

DELAY_MAX = timedelta(days=3650)  # ten years: later sums would leave the range of timestamps


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how soon a failed step is tried again.

    `max_attempts` counts every try, the first included. The delay before attempt *n + 1* is `delay` (constant),
    ``delay * n`` (linear) or ``delay * 2 ** (n - 1)`` (exponential), at most `max_delay`, then spread by plus or minus
    `jitter` (a share, 0 to 1) so that failures of one moment do not come back as one crowd. Errors must be instances
    of `retry_on` and not of `give_up_on`; `NonRetryable` never retries and `RetryAfter` sets the delay itself.
    """

    max_attempts: int = 1
    backoff: Backoff = "exponential"
    delay: timedelta = timedelta(seconds=1)
    max_delay: timedelta = timedelta(hours=1)
    jitter: float = 0.25
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if type(self.max_attempts) is not int or self.max_attempts < 1:
            raise DefinitionError(f"Retry: max_attempts is {self.max_attempts!r}. Give a whole number from 1 up.")
        if self.backoff not in ("exponential", "linear", "constant"):
            raise DefinitionError(f"Retry: backoff is {self.backoff!r}. Choose 'exponential', 'linear' or 'constant'.")
        for name in ("delay", "max_delay"):
            value = getattr(self, name)
            if not isinstance(value, timedelta) or not timedelta(0) <= value <= DELAY_MAX:
                raise DefinitionError(
                    f"Retry: {name} is {value!r}. Give a timedelta from zero to ten years, e.g. seconds(30)."
                )
        if self.delay > self.max_delay:
            raise DefinitionError(
                f"Retry: delay is {self.delay}, longer than max_delay, which is {self.max_delay}. Give a max_delay as well."
            )
        if type(self.jitter) not in (int, float) or not 0 <= self.jitter <= 1:
            raise DefinitionError(f"Retry: jitter is {self.jitter!r}. Give a share from 0 to 1, e.g. 0.25.")
        for name in ("retry_on", "give_up_on"):
            value: Any = getattr(self, name)
            if type(value) is not tuple or not all(_is_exception(kind) for kind in cast("tuple[Any, ...]", value)):
                raise DefinitionError(f"Retry: {name} is {value!r}. Give a tuple of exception classes.")

    def next_delay(self, attempt: int, error: BaseException, spread: float) -> timedelta | None:
        """The pause after *attempt* (1 for the first) failed with *error*; None when it is not tried again.

        *spread*, from -1 to 1, is the caller's random number: the model itself draws none.
        """
        if attempt >= self.max_attempts or isinstance(error, NonRetryable):
            return None
        if isinstance(error, RetryAfter):
            return min(max(error.delay, timedelta(0)), DELAY_MAX)
        if not isinstance(error, self.retry_on) or isinstance(error, self.give_up_on):
            return None
        return min(self._base(attempt) * (1 + self.jitter * spread), DELAY_MAX)

    def _base(self, attempt: int) -> timedelta:
        match self.backoff:
            case "constant":
                factor = 1
            case "linear":
                factor = attempt
            case "exponential":
                factor = 2 ** min(attempt - 1, 62)  # beyond, every delay has met max_delay long ago
        if self.delay and factor > self.max_delay / self.delay:
            return self.max_delay
        return self.delay * factor


def _is_exception(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)
