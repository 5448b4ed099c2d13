"""What becomes of data that several arms have changed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.errors import MergeConflict
from durable.model.merge import merge

BASE: dict[str, Any] = {"n": 1, "user": {"name": "a", "tags": [1, 2]}}


def deep(*results: Any, base: Any = BASE) -> Any:
    return merge(base, [(f"arm{n}", data) for n, data in enumerate(results, start=1)], deep=True)


def last(*results: Any, base: Any = BASE) -> Any:
    return merge(base, [(f"arm{n}", data) for n, data in enumerate(results, start=1)], deep=False)


@pytest.mark.parametrize("merged", [deep, last])
def test_what_different_arms_changed_is_put_together(merged: Any) -> None:
    assert merged({**BASE, "x": 1}, {**BASE, "y": {"z": 2}}) == {**BASE, "x": 1, "y": {"z": 2}}


@pytest.mark.parametrize("merged", [deep, last])
def test_a_key_that_an_arm_left_out_is_kept(merged: Any) -> None:
    assert merged({"x": 1}, {}) == {**BASE, "x": 1}
    assert merged({"user": {"name": "b"}}) == {"n": 1, "user": {"name": "b", "tags": [1, 2]}}


def test_objects_are_merged_at_any_depth() -> None:
    one, other = {"user": {"name": "b"}}, {"user": {"tags": [3], "age": 4}}
    assert deep(one, other) == {"n": 1, "user": {"name": "b", "tags": [3], "age": 4}}


def test_objects_that_several_arms_have_made_are_merged() -> None:
    assert deep({"new": {"a": 1}}, {"new": {"b": 2}}) == {**BASE, "new": {"a": 1, "b": 2}}


def test_an_arm_that_changed_nothing_never_takes_back_what_another_changed() -> None:
    for merged in (deep, last):
        assert merged({**BASE, "n": 2}, BASE) == {**BASE, "n": 2}


def test_of_two_changes_of_one_place_the_later_wins_if_asked_for() -> None:
    assert last({"n": 2, "x": 1}, {"n": 3}) == {**BASE, "n": 3, "x": 1}
    assert last({"user": 5}, {"user": {"name": "c"}})["user"] == {"name": "c"}
    assert last({"user": {"name": "c"}}, {"user": 5})["user"] == 5


@pytest.mark.parametrize(
    ("one", "other", "place"),
    [
        ({"n": 2}, {"n": 3}, "'n'"),
        ({"user": {"name": "b"}}, {"user": {"name": "c"}}, "'user/name'"),
        ({"user": {"tags": [1]}}, {"user": {"tags": [2]}}, "'user/tags'"),
        ({"new": 1}, {"new": 2}, "'new'"),
        ({"new": {}}, {"new": 2}, "'new'"),
        ({"new": {"a": 1}}, {"new": 2}, "'new'"),
        ({"new": 2}, {"new": {"a": 1}}, "'new'"),
        ({"user": 1}, {"user": {"name": "b"}}, "'user'"),
        ({"user": {"name": "b"}}, {"user": 1}, "'user'"),
        (5, {"n": 2}, "'the data'"),
        (5, 6, "'the data'"),
    ],
)
def test_two_arms_that_change_one_place_are_a_conflict_that_names_both(one: Any, other: Any, place: str) -> None:
    with pytest.raises(MergeConflict, match=f"^arms 'arm1' and 'arm3' both changed {place}"):
        deep(one, {"elsewhere": 1} if isinstance(one, dict) else BASE, other)


def test_two_arms_that_agree_are_no_conflict() -> None:
    assert deep({"n": 2}, {"n": 2}) == {**BASE, "n": 2}


@pytest.mark.parametrize(("one", "other"), [(1, True), (0, False), (1, 1.0), ([1], [True]), ({"a": 1}, {"a": 1.0})])
def test_values_that_python_calls_equal_and_json_does_not_are_a_conflict(one: Any, other: Any) -> None:
    with pytest.raises(MergeConflict):
        deep({"x": one}, {"x": other})


@pytest.mark.parametrize(("base", "data"), [(1, True), (1, 1.0), ([1], [True])])
def test_a_change_of_type_alone_is_a_change(base: Any, data: Any) -> None:
    assert type(deep(data, base=base)) is type(data)
    assert deep({"x": data}, base={"x": base})["x"] is data


def test_data_that_is_no_object_is_changed_by_one_arm_alone() -> None:
    assert deep(5, 6, base=5) == 6
    assert last(6, 7, base=5) == 7


@pytest.mark.parametrize("merged", [deep, last])
def test_the_data_of_the_arms_is_left_as_it_was(merged: Any) -> None:
    base, one, other = {"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"d": 3}}
    merged(one, other, base=base)
    assert (base, one, other) == ({"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"d": 3}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_what_one_arm_made_alone_is_all_there(base: Any, data: Any) -> None:
    result = deep(base, data, base, base=base)
    assert result == deep(data, base=base)
    if isinstance(data, dict) and isinstance(base, dict):
        assert result.keys() == base.keys() | data.keys()
    else:
        assert result == data


@given(JSON, JSON, JSON)
def test_a_merge_without_a_conflict_does_not_depend_on_the_order_of_the_arms(base: Any, one: Any, other: Any) -> None:
    try:
        result = deep(one, other, base=base)
    except MergeConflict:
        with pytest.raises(MergeConflict):
            deep(other, one, base=base)
    else:
        assert deep(other, one, base=base) == result == last(one, other, base=base)
