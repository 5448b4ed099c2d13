"""A stand-in for the engine's `Context`, which authoring knows only by its mark."""

from __future__ import annotations


class Context:
    __durable_context__ = True
