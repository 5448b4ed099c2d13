"""A codec may wrap another: what encryption at rest needs. The cipher here is a toy that protects nothing."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from durable.codec import Codec, JsonCodec
from durable.errors import DecodeError, EncodeError


class ToyXorCodec:
    """Shows the shape of an encrypting codec: the inner JSON text becomes one JSON string. Not encryption."""

    def __init__(self, inner: Codec, key: bytes) -> None:
        self._inner = inner
        self._pad = hashlib.sha256(key).digest()

    def encode(self, value: Any, annotation: Any = Any) -> str:
        plain = self._inner.encode(value, annotation).encode()
        return json.dumps(base64.b64encode(self._xor(plain)).decode())

    def decode(self, text: str, annotation: Any = Any) -> Any:
        try:
            plain = self._xor(base64.b64decode(json.loads(text), validate=True)).decode()
        except (ValueError, TypeError) as error:
            raise DecodeError("$: the text was not written with this key") from error
        return self._inner.decode(plain, annotation)

    def _xor(self, data: bytes) -> bytes:
        return bytes(one ^ other for one, other in zip(data, itertools.cycle(self._pad), strict=False))


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
