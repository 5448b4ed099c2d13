"""How a workflow is written: `Workflow`, its blocks and their decorators. They only collect; nothing here runs a step."""

from durable.authoring.blocks import BlockBuilder
from durable.authoring.collect import collect
from durable.authoring.composites import BranchBuilder, ForeachBuilder, LoopBuilder, ParallelBuilder
from durable.authoring.function import FunctionWorkflow, workflow
from durable.authoring.workflow import In, Out, Workflow

__all__ = [
    "BlockBuilder",
    "BranchBuilder",
    "ForeachBuilder",
    "FunctionWorkflow",
    "In",
    "LoopBuilder",
    "Out",
    "ParallelBuilder",
    "Workflow",
    "collect",
    "workflow",
]
