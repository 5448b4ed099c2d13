from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from durable.authoring import Workflow, collect
from durable.errors import DefinitionError


def workflow(name: str, version: int = 1, *steps: str) -> Workflow[Any, Any]:
    made = Workflow(name, version=version)
    for step in steps or ("only",):
        made.step(lambda data: data, name=step)
    return made


def module(path: Path, name: str, source: str) -> ModuleType:
    """The module *name* made from a file of *source*, not entered in `sys.modules`."""
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


ORDERS = """
from durable.authoring import Workflow
orders = Workflow("order")
@orders.step
async def charge(data): ...
"""


def test_workflows_and_modules_are_collected_by_name_and_version(tmp_path: Path) -> None:
    trip = workflow("trip")
    flows = module(tmp_path / "flows.py", "flows", ORDERS)
    assert collect([trip, flows]) == {("trip", 1): trip, ("order", 1): flows.orders}


def test_a_module_contributes_every_workflow_in_its_globals_imported_ones_too() -> None:
    flows = ModuleType("flows")
    one, other = workflow("one"), workflow("other")
    vars(flows).update(one=one, again=one, other=other, unrelated=object(), kind=Workflow)
    assert collect([flows, one]) == {("one", 1): one, ("other", 1): other}


def test_a_lazy_proxy_in_a_module_is_left_alone() -> None:
    class Proxy:
        @property
        def __class__(self) -> Any:
            raise RuntimeError("working outside of request context")

    flows = ModuleType("flows")
    vars(flows).update(request=Proxy(), one=workflow("one"))
    assert list(collect([flows])) == [("one", 1)]


def test_collected_workflows_are_frozen() -> None:
    trip = workflow("trip")
    collect([trip])
    with pytest.raises(DefinitionError, match="comes too late"):
        trip.step(lambda data: data, name="late")


def test_several_versions_of_one_name_stand_side_by_side() -> None:
    old, new = workflow("order", 1), workflow("order", 2)
    assert collect([old, new]) == {("order", 1): old, ("order", 2): new}


def test_the_same_place_imported_twice_is_one(tmp_path: Path) -> None:
    first = module(tmp_path / "flows.py", "flows", ORDERS)
    second = module(tmp_path / "flows.py", "__main__", ORDERS)
    assert first.orders is not second.orders
    assert collect([first, second]) == {("order", 1): first.orders}


def test_two_places_of_one_name_are_refused_and_both_named(tmp_path: Path) -> None:
    first = module(tmp_path / "a.py", "a", ORDERS)
    second = module(tmp_path / "b.py", "b", "\n" + ORDERS)
    with pytest.raises(DefinitionError) as caught:
        collect([first, second])
    places = f"({tmp_path / 'a.py'}:3 and {tmp_path / 'b.py'}:4)"
    assert f'workflow "order" version 1 is defined in two places {places}' in str(caught.value)


def test_one_line_that_makes_two_different_workflows_of_one_name_is_refused() -> None:
    assert collect([workflow("order", 1, "a"), workflow("order", 1, "a")])
    with pytest.raises(DefinitionError, match="made twice with different steps"):
        collect([workflow("order", 1, "a"), workflow("order", 1, "b")])


def test_a_definition_that_cannot_work_is_refused_when_collected() -> None:
    with pytest.raises(DefinitionError, match="has no steps"):
        collect([Workflow("order")])


def test_what_is_no_workflow_is_refused_at_the_call() -> None:
    here = Path(__file__).name
    with pytest.raises(DefinitionError, match=rf"{here}:\d+\) contains 'order'. Give Workflow objects"):
        collect(["order"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    with pytest.raises(DefinitionError, match=r"module sys has no Workflow in its globals"):
        collect([sys])
