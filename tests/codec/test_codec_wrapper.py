"""A codec may wrap another: what encryption at rest needs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from durable.codec import Codec, JsonCodec
from durable.errors import DecodeError, EncodeError
from tests.support.codecs import ToyXorCodec


class Account(msgspec.Struct):
    owner: str
    balance: Decimal
    opened: datetime


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ({"a": [1, None, "żółw"]}, Any),
        (Account("Ann", Decimal("1.10"), datetime(2026, 1, 1, tzinfo=UTC)), Account),
        ({1: "a"}, dict[int, str]),
        (None, Any),
    ],
)
def test_a_wrapped_codec_keeps_the_contract(value: Any, annotation: Any) -> None:
    codec: Codec = ToyXorCodec(JsonCodec(), b"secret")
    text = codec.encode(value, annotation)
    assert isinstance(json.loads(text), str), "what is stored is one JSON string"
    assert codec.decode(text, annotation) == value


def test_a_wrapped_codec_hides_the_data_and_passes_refusals_on() -> None:
    codec = ToyXorCodec(JsonCodec(), b"secret")
    assert "Ann" not in codec.encode({"owner": "Ann"})
    with pytest.raises(EncodeError, match=r"\$\.a is NaN"):
        codec.encode({"a": float("nan")})
    with pytest.raises(DecodeError):
        ToyXorCodec(JsonCodec(), b"other").decode(codec.encode({"owner": "Ann"}))
