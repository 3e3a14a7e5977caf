"""Tasks of one job told apart by named parameters: tables and grids, what is refused, and back to the description."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.pilot.model.errors import InvalidJobError
from pilotfish.pilot.model.variables import of_iteration, substitute
from pilotfish.pilot.wire.describe_iteration import describe_iteration, undescribe_iteration


def rows(member: Any) -> list[dict[str, str]]:
    """The parameters of each task."""
    iteration = describe_iteration(member, "iteration")
    return [{param.name: param.at(pos) for param in iteration.params} for pos in range(iteration.count)]


def test_columns_and_rows_are_the_same_table() -> None:
    table = [{"alpha": "0.1", "seed": "1"}, {"alpha": "0.2", "seed": "2"}]
    assert rows({"params": {"alpha": [0.1, 0.2], "seed": [1, 2]}}) == table
    assert rows({"params": [{"alpha": 0.1, "seed": 1}, {"alpha": "0.2", "seed": "2"}]}) == table
    assert rows({"params": {"alpha": [0.1, 0.2], "seed": {"start": 1, "stop": 3}}}) == table


def test_the_last_name_of_a_grid_changes_fastest() -> None:
    grid = {"a": ["x", "y"], "b": {"stop": 4, "step": 2}, "c": [True, None]}
    expected = [{"a": a, "b": b, "c": c} for a, b, c in product("xy", ("0", "2"), ("true", ""))]
    assert rows({"grid": grid}) == expected


def test_each_row_of_a_table_meets_each_point_of_a_grid() -> None:
    member = {"params": {"n": ["one", "two"]}, "grid": {"seed": {"stop": 3}}}
    assert rows(member) == [{"n": n, "seed": str(seed)} for n, seed in product(("one", "two"), range(3))]


def test_a_grid_of_a_million_points_is_a_few_values() -> None:
    iteration = describe_iteration({"grid": {"a": {"stop": 1000}, "b": {"stop": 1000}}}, "iteration")
    assert iteration.count == 1_000_000
    assert iteration.value_at(999_999) == '{"a": "999", "b": "999"}'
    assert sum(len(param.texts) for param in iteration.params) == 0


def test_a_task_sees_its_parameters_by_both_names_and_all_as_json() -> None:
    iteration = describe_iteration({"params": {"alpha": [1, 2]}, "start": 5}, "iteration")
    values = of_iteration(6, iteration.value_at(1), has_params=True)
    assert substitute("${it} ${alpha} ${itval.alpha} ${itval}", values) == '6 2 2 {"alpha": "2"}'


@pytest.mark.parametrize(
    ("member", "where", "text"),
    [
        ({"params": {}}, "iteration.params", "there are no parameters"),
        ({"params": []}, "iteration.params", "there are no rows"),
        ({"params": 3}, "iteration.params", "neither an object of columns nor an array of rows"),
        ({"params": {"a": []}}, "iteration.params.a", "there are no values"),
        ({"params": {"a": "xy"}}, "iteration.params.a", '"xy" is not an array'),
        ({"params": {"a": [1], "b": [1, 2]}}, "iteration.params", '"a" has 1 values and "b" 2'),
        ({"params": [{"a": 1}, {"b": 1}]}, "iteration.params[1]", '"a" is missing'),
        ({"params": [{"a": 1}, 7]}, "iteration.params[1]", "7 is not an object"),
        ({"params": {"a b": [1]}}, "iteration.params", '"a b" cannot be the name of a variable'),
        ({"grid": {"it": [1]}}, "iteration.grid.it", "${it} means something else already"),
        ({"grid": {"a": {"start": 2, "stop": 1}}}, "iteration.grid.a", "2, 1 in steps of 1 has no value"),
        ({"grid": {"a": {"stop": 1, "step": 0}}}, "iteration.grid.a", "steps of 0"),
        ({"grid": {"a": {"stop": "9"}}}, "iteration.grid.a.stop", '"9" is not a whole number'),
        ({"grid": {"a": ["x\0y"]}}, "iteration.grid.a", "NUL"),
        ({"params": {"a": [1]}, "grid": {"a": [1]}}, "iteration", '"a" is in params and in grid'),
        ({"params": {"a": [1]}, "stop": 3}, "iteration", "stop and params are excluding"),
        ({"grid": {"a": {"stop": 10**6}, "b": {"stop": 10**6}}}, "iteration", "1000000000000 iterations are more than"),
        ({"grid": {"a": {"stop": 10**30}}}, "iteration.grid.a.stop", "too large"),
    ],
)
def test_what_is_wrong_is_named(member: dict[str, Any], where: str, text: str) -> None:
    with pytest.raises(InvalidJobError) as refused:
        describe_iteration(member, "iteration")
    assert refused.value.where == where
    assert text in refused.value.what


NAMES = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=3, unique=True)
COLUMN = st.lists(st.text("xyz", max_size=2), min_size=1, max_size=3) | st.builds(
    lambda start, count, step: {"start": start, "stop": start + count * step, "step": step},
    st.integers(-5, 5),
    st.integers(1, 3),
    st.sampled_from([-2, 1, 3]),
)


@given(st.data())
def test_the_normal_form_means_the_same(data: st.DataObject) -> None:
    member: dict[str, Any] = {"grid": {name: data.draw(COLUMN) for name in data.draw(NAMES)}}
    if data.draw(st.booleans()):
        length = data.draw(st.integers(1, 3))
        member["params"] = {name: data.draw(st.lists(st.text("uv"), min_size=length, max_size=length)) for name in "pq"}
    iteration = describe_iteration(member, "iteration")
    assert describe_iteration(undescribe_iteration(iteration), "iteration") == iteration
