"""Values to JSON text and back, by annotation: what a step returns is exactly what the next one gets, or is refused.

Owns the conversion, its limits and its errors. Refuses whatever JSON would change in silence: NaN and infinities,
keys that would become strings, lone surrogates, numbers that lose digits, nesting beyond `DEPTH_MAX`.

How it stays fast: a value is written, read back and compared, all at C speed. Only a value that does not compare
equal (or whose class decides for itself what equal means) is walked in Python, to tell a legal JSON form (a tuple
in an untyped place arrives as a list) from a loss, and to name the place of the loss.
"""

from __future__ import annotations

from typing import Any, Protocol

from durable.codec.places import DEPTH_MAX, name_of, text_of
from durable.codec.reading import PLANS, explain_misfit, plan_for
from durable.codec.writing import depth_within, encode_slowly, refuse_losses, write
from durable.errors import DecodeError, EncodeError

__all__ = ["DEPTH_MAX", "Codec", "JsonCodec", "plain_text"]

_UNTYPED = PLANS[Any]


class Codec(Protocol):
    """How values become JSON text in the database and come back. Wrap one in another for encryption at rest.

    The text may be another one each time: of no two texts does the engine ask whether they are equal.
    """

    def encode(self, value: Any, annotation: Any = Any) -> str:
        """JSON text for *value*, which `decode` with the same *annotation* turns back into its equal.

        Raises `EncodeError`, naming the place inside the value, when that is impossible.
        """
        ...

    def decode(self, text: str, annotation: Any = Any) -> Any:
        """The value that *text* stands for, as the type that *annotation* says; builtins for `Any`.

        Raises `DecodeError`, naming the place and what was expected there.
        """
        ...


class JsonCodec:
    """The default codec: plain JSON. It has no state; one instance may serve every thread."""

    def encode(self, value: Any, annotation: Any = Any) -> str:
        """JSON text for *value*, proven to read back as *annotation*.

        In a place without a type, a tuple, set, datetime, Decimal, UUID, Enum, bytes, dataclass, Struct or model is
        written in its JSON form and arrives as that. Raises `EncodeError` and nothing else.
        """
        try:
            raw = write(value)
            plan = PLANS[annotation] if annotation is not Any else PLANS.get(type(value), _UNTYPED)
            arrived = plan.read(raw)
            if not plan.comparable or (arrived == value) is not True:
                refuse_losses(value, arrived)
            if len(raw) <= 2 * DEPTH_MAX or depth_within(raw, DEPTH_MAX):
                return raw.decode()
        except EncodeError:
            raise
        except Exception:
            pass  # whatever it is, the slow way finds it again and says where
        try:
            return encode_slowly(value, annotation)
        except EncodeError:
            raise
        except Exception as error:  # an __eq__ or a property of the user's, or JSON in a msgspec.Raw that is none
            raise EncodeError(
                f"$: {name_of(type(value))} cannot be compared with what it becomes in JSON "
                f"({type(error).__name__}: {text_of(error)}). Return plain data."
            ) from error

    def check(self, annotation: Any) -> None:
        """Raise `DecodeError` if nothing at all could be read as *annotation*, as far as that can be known beforehand."""
        try:
            plan_for(annotation)
        except Exception as error:
            raise DecodeError(explain_misfit(error)) from error

    def decode(self, text: str, annotation: Any = Any) -> Any:
        """The value of *text* as *annotation* says. Raises `DecodeError` and nothing else."""
        try:
            return plan_for(annotation).read(text)
        except Exception as error:
            raise DecodeError(explain_misfit(error)) from error


def plain_text(value: Any, codec: Codec, annotation: Any = Any) -> str:
    """JSON text by which *value* is known again, not to be stored: the same each time, which that of a codec that encrypts is
    not. Raises `EncodeError`, and `DecodeError` if *codec* cannot read what it has written."""
    text = codec.encode(value, annotation)
    return text if type(codec) is JsonCodec else JsonCodec().encode(codec.decode(text))
