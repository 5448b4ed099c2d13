"""The part of a `process=True` step that runs in the worker process.

Its arguments, result and errors cross by pickle, within one run and never to storage.
"""

from __future__ import annotations

import contextlib
import pickle
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from durable.engine.context import CURRENT, Context


def in_child(
    function: Callable[..., Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any], here: Context
) -> Any:
    """Call *function* with *here* as its `durable.context()`; the traceback goes along with its error."""
    token = CURRENT.set(here)
    try:
        return function(*arguments, **keywords)
    except Exception as error:
        raise _able_to_travel(error) from None
    finally:
        CURRENT.reset(token)


def _able_to_travel(error: Exception) -> Exception:
    trace = error.__traceback__
    lines = "".join(traceback.format_exception(type(error), error, trace.tb_next if trace else None))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # e.g. an __init__ of more arguments than it passed on to Exception
        kind = type(error)
        error = RuntimeError(f"{kind.__module__}.{kind.__qualname__}: {error} (pickle cannot carry this exception)")
    with contextlib.suppress(Exception):  # an exception may refuse to be changed
        error.add_note(f"In the worker process:\n{lines}")
    return error
