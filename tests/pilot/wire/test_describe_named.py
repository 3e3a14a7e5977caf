"""Named resources and parts of GPUs in a job description."""

from __future__ import annotations

from typing import Any

import pytest

from pilotfish.pilot.model.errors import InvalidJobError
from pilotfish.pilot.model.job_spec import Need, Placement, Size, Want
from pilotfish.pilot.model.resources import PARTS
from pilotfish.pilot.wire.describe import describe_jobs, undescribe

ONE = Size.exactly(1)


def need(resources: Any) -> Need:
    return describe_jobs([{"name": "a", "execution": {"exec": "x"}, "resources": resources}], None)[0].resources.need


@pytest.mark.parametrize(
    ("resources", "named"),
    [
        ({"nvme": 2}, [Want("nvme", 2)]),
        ({"scratch": "400G"}, [Want("scratch", 400 << 30)]),
        ({"licence": "3"}, [Want("licence", 3)]),
        ({"nvme": 0.25}, [Want("nvme", 0, PARTS // 4)]),
        ({"nvme": "0.25"}, [Want("nvme", 0, PARTS // 4)]),
        ({"nvme": "1/3"}, [Want("nvme", 0, PARTS // 3)]),
        ({"nvme": 0.1}, [Want("nvme", 0, PARTS // 10)]),
        ({"nvme": "2/2"}, [Want("nvme", 1)]),
        ({"nvme": 1.0}, [Want("nvme", 1)]),
        ({"nvme": None}, []),
        ({"gpu": 0.5}, [Want("gpu", 0, PARTS // 2)]),
        ({"nodeCrs": {"gpu": "1/4"}}, [Want("gpu", 0, PARTS // 4)]),
        ({"zoo": 1, "ant": 2}, [Want("ant", 2), Want("zoo", 1)]),
    ],
)
def test_amounts_of_named_resources(resources: dict[str, Any], named: list[Want]) -> None:
    assert need(resources) == Need(ONE, named=tuple(named))


def test_whole_gpus_are_gpus_wherever_they_stand() -> None:
    """Equal needs wait together, so they must be written in one way."""
    assert need({"gpu": 2}) == need({"nodeCrs": {"gpu": 2}}) == need({"gpu": "2"}) == Need(ONE, gpus=2)


@pytest.mark.parametrize(
    ("resources", "error"),
    [
        ({"nvme": 0}, "resources.nvme: 0 is too little; ask for some of it, or leave it out"),
        ({"nvme": -1}, "resources.nvme: -1 is too little"),
        ({"nvme": 1.5}, "resources.nvme: 1.5 is neither whole nor part of one"),
        ({"nvme": "1/13"}, 'resources.nvme: "1/13" is too fine; use at most four decimals'),
        ({"nvme": "1/0"}, 'resources.nvme: "1/0" is not a number'),
        ({"nvme": "many"}, 'resources.nvme: "many" is not an amount'),
        ({"nvme": [1]}, "resources.nvme: [1] is not a number"),
        ({"nvme": True}, "resources.nvme: true is not a number"),
        ({"nvme": 1 << 61}, "is more than any machine has"),
        ({"gpu": 1, "nodeCrs": {"gpu": 1}}, "resources.gpu: GPUs are asked for twice; leave nodeCrs.gpu out"),
        ({"gpus": 1}, 'resources.gpus: unknown key; did you mean "gpu"?'),
        ({"cores": 1}, "resources.cores: unknown key"),
        ({"numcores": 1}, 'resources.numcores: unknown key; did you mean "numCores"?'),
        ({"Nvme": 1}, "resources.Nvme: unknown key"),
        ({"weight": 2}, "resources.weight: there is no alternative"),
        (
            {"placement": "far"},
            'resources.placement: "far" is not known; write compact, scatter, exclusive, socket, numa',
        ),
        ({"apart": "a b"}, 'resources.apart: "a b" is not a label'),
        ([], "resources: 0 alternatives; write 1 to 8 objects"),
        ([{}, {"weight": 0}], "resources[1].weight: 0 is not a weight"),
        ([{}, 4], "resources[1]"),
        ([{"wt": "1h"}, {}], "resources[1].wt: it is another than the first's"),
        (
            [{}, {"numCores": {"min": 1, "scheduler": "maximum-iters"}}],
            "resources[1]: alternatives cannot have a scheduler",
        ),
    ],
)
def test_what_is_no_amount_or_no_name_is_refused(resources: Any, error: str) -> None:
    with pytest.raises(InvalidJobError) as caught:
        need(resources)
    assert error in str(caught.value)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"placement": "compact"}, Need(ONE)),
        ({"placement": "scatter"}, Need(ONE, placement=Placement.SCATTER)),
        ({"numCores": 1, "placement": "exclusive"}, Need(ONE, placement=Placement.EXCLUSIVE)),
        ({"apart": True}, Need(ONE, named=(Want("apart:a", 1),))),
        ({"apart": "db"}, Need(ONE, named=(Want("apart:db", 1),))),
        ({"apart": False}, Need(ONE)),
    ],
)
def test_how_a_task_is_placed(resources: dict[str, Any], expected: Need) -> None:
    """Shown, it means the same."""
    job = describe_jobs([{"name": "a", "execution": {"exec": "x"}, "resources": resources}], None)[0]
    assert job.resources.need == expected == need(undescribe(job)["resources"])


def test_alternatives_are_in_the_order_in_which_they_are_liked() -> None:
    """By weight, then as they are written; the same twice is there once."""
    raw = [{"numCores": 8}, {"gpu": 1, "weight": 5}, {"numCores": 8, "weight": 0.5}, {"numCores": 4}]
    resources = describe_jobs([{"name": "a", "execution": {"exec": "x"}, "resources": raw}], None)[0].resources
    assert resources.needs == (Need(ONE, gpus=1), Need(Size.exactly(8)), Need(Size.exactly(4)))


def test_alternatives_that_are_shown_mean_the_same() -> None:
    raw = [{"numCores": 8, "wt": "1h"}, {"gpu": 0.5, "weight": 2, "wt": "1h"}]
    job = describe_jobs([{"name": "a", "execution": {"exec": "x"}, "resources": raw}], None)[0]
    again = {"name": "a", "execution": {"exec": "x"}, "resources": undescribe(job)["resources"]}
    assert describe_jobs([again], None)[0].resources == job.resources


@pytest.mark.parametrize("resources", [{"nvme": 2}, {"nvme": "1/3", "gpu": 0.25}, {"scratch": "400G"}])
def test_a_description_that_is_shown_means_the_same(resources: dict[str, Any]) -> None:
    job = describe_jobs([{"name": "a", "execution": {"exec": "x"}, "resources": resources}], None)[0]
    assert need(undescribe(job)["resources"]) == job.resources.need
