"""Durable workflows for asyncio, kept in PostgreSQL. This is the door: everything public is here."""

from durable.app import Durable
from durable.authoring import Workflow
from durable.client import Handle
from durable.codec import Codec, JsonCodec
from durable.current import cancel, get_execution, list_executions, start, start_many
from durable.data import append, assign, increment, update
from durable.engine.context import Context, context
from durable.errors import (
    ClaimLost,
    ConfigurationError,
    DeadlineExceeded,
    DecodeError,
    DefinitionError,
    DurableError,
    EncodeError,
    EngineNotRunning,
    ExecutionCancelled,
    ExecutionFailed,
    IdConflict,
    InternalError,
    Interruption,
    NonRetryable,
    PayloadTooLarge,
    RetryAfter,
    SchemaTooNew,
    SeveralEngines,
    StepAborted,
    StepTimeout,
    StoreUnavailable,
    UnknownExecution,
    UnknownWorkflow,
    UsageError,
    WorkerCrashed,
)
from durable.model.failure import Failure
from durable.model.retry import Retry
from durable.model.status import Status
from durable.timing import days, hours, minutes, seconds
from durable.view import Attempt, Execution, Page, StepView

__all__ = [
    "Attempt",
    "ClaimLost",
    "Codec",
    "ConfigurationError",
    "Context",
    "DeadlineExceeded",
    "DecodeError",
    "DefinitionError",
    "Durable",
    "DurableError",
    "EncodeError",
    "EngineNotRunning",
    "Execution",
    "ExecutionCancelled",
    "ExecutionFailed",
    "Failure",
    "Handle",
    "IdConflict",
    "InternalError",
    "Interruption",
    "JsonCodec",
    "NonRetryable",
    "Page",
    "PayloadTooLarge",
    "Retry",
    "RetryAfter",
    "SchemaTooNew",
    "SeveralEngines",
    "Status",
    "StepAborted",
    "StepTimeout",
    "StepView",
    "StoreUnavailable",
    "UnknownExecution",
    "UnknownWorkflow",
    "UsageError",
    "WorkerCrashed",
    "Workflow",
    "append",
    "assign",
    "cancel",
    "context",
    "days",
    "get_execution",
    "hours",
    "increment",
    "list_executions",
    "minutes",
    "seconds",
    "start",
    "start_many",
    "update",
]
