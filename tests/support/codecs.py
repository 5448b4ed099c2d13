"""Codecs that tests give to an engine."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
from typing import Any

from durable.codec import Codec
from durable.errors import DecodeError

NONCE_BYTES = 8


class ToyXorCodec:
    """Shows the shape of an encrypting codec: the inner JSON text becomes one JSON string, another one each time. It protects
    nothing."""

    def __init__(self, inner: Codec, key: bytes) -> None:
        self._inner = inner
        self._key = key

    def encode(self, value: Any, annotation: Any = Any) -> str:
        """See `Codec`."""
        nonce = os.urandom(NONCE_BYTES)
        plain = self._inner.encode(value, annotation).encode()
        return json.dumps(base64.b64encode(nonce + self._xor(nonce, plain)).decode())

    def decode(self, text: str, annotation: Any = Any) -> Any:
        """See `Codec`."""
        try:
            hidden = base64.b64decode(json.loads(text), validate=True)
            plain = self._xor(hidden[:NONCE_BYTES], hidden[NONCE_BYTES:]).decode()
        except (ValueError, TypeError) as error:
            raise DecodeError("$: the text was not written with this key") from error
        return self._inner.decode(plain, annotation)

    def _xor(self, nonce: bytes, data: bytes) -> bytes:
        pad = hashlib.sha256(nonce + self._key).digest()
        return bytes(one ^ other for one, other in zip(data, itertools.cycle(pad), strict=False))
