"""Log records and the executions that they come from: bound to each record by a filter, captured by a handler."""

from __future__ import annotations

import logging

from durable.engine.context import CURRENT, Engine


class LogContext(logging.Filter):
    """Says of each record from where it comes: `execution_id`, `workflow`, `path` and `attempt`, for formatters to use;
    empty, and 0, outside of a step. Add it to a handler: ``handler.addFilter(durable.LogContext())``. It lets every record
    through."""

    def filter(self, record: logging.LogRecord) -> bool:
        context = CURRENT.get()
        record.execution_id = "" if context is None else context.execution_id
        record.workflow = "" if context is None else context.workflow
        record.path = "" if context is None else context.path
        record.attempt = 0 if context is None else context.attempt
        return True


class Capture(logging.Handler):
    """Keeps what bodies log that *engine* runs; see ``Durable(capture_logs=...)``."""

    def __init__(self, engine: Engine, level: int) -> None:
        super().__init__(level)
        self._engine = engine

    def emit(self, record: logging.LogRecord) -> None:
        context = CURRENT.get()
        if context is None or context.engine is not self._engine or record.name.partition(".")[0] == "durable":
            return
        logs = context.logs
        if logs is None:
            return
        try:
            logs.take(record.levelname, record.name, self.format(record))
        except Exception:
            self.handleError(record)
