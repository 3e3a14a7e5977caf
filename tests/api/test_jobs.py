"""What `Jobs` makes of attributes, and the text of every refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilotfish.api.errors import FileError, InvalidJobDescriptionError, JobNotDefinedError
from pilotfish.api.jobs import Jobs


def added(**attributes: Any) -> dict[str, Any]:
    return Jobs().add(name="a", exec="true", **attributes).ordered_jobs()[0]


def test_attributes_go_to_their_place_in_the_description() -> None:
    job = added(
        args=["1"], env={"X": "1"}, wd="w", stdout="o", wt="1m", mem="2GiB", gpus=1, after="b", priority=3, retries=2
    )
    assert job == {
        "name": "a",
        "execution": {"exec": "true", "args": ["1"], "env": {"X": "1"}, "wd": "w", "stdout": "o"},
        "resources": {"wt": "1m", "mem": "2GiB", "nodeCrs": {"gpu": 1}},
        "dependencies": {"after": ["b"]},
        "priority": 3,
        "retries": 2,
    }


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        (5, {"start": 0, "stop": 5}),
        (["x", "y"], {"values": ["x", "y"]}),
        ({"start": 2, "stop": 4}, {"start": 2, "stop": 4}),
    ],
)
def test_iteration_takes_a_number_a_list_or_an_object(given: Any, becomes: dict[str, Any]) -> None:
    assert added(iteration=given)["iteration"] == becomes


@pytest.mark.parametrize("scheduler", ["split-into", {"name": "split-into", "params": {"parts": 4}}])
def test_a_scheduler_may_be_text_or_an_object(scheduler: Any) -> None:
    size = {"min": 1, "scheduler": scheduler}
    assert added(numCores=size)["resources"]["numCores"] == size


def test_a_number_of_cores_or_nodes_is_exact() -> None:
    assert added(numCores=4, numNodes=2)["resources"] == {"numCores": {"exact": 4}, "numNodes": {"exact": 2}}


def test_keywords_win_over_the_dictionary() -> None:
    assert Jobs().add({"name": "a", "exec": "false"}, exec="true").ordered_jobs()[0]["execution"] == {"exec": "true"}


def test_jobs_without_a_name_get_different_ones() -> None:
    assert len(set(Jobs().add(exec="true").add(exec="true").job_names())) == 2


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"name": "a"}, "No 'exec' nor 'script' defined"),
        ({"exec": "true", "script": "true"}, "Both 'exec' and 'script' defined"),
        ({"exec": "true", "colour": 1}, "Unknown attribute colour"),
        ({"exec": 1}, "Invalid attribute exec type <class 'int'>"),
        ({"exec": "true", "numCores": True}, "Invalid attribute numCores type <class 'bool'>"),
        ({"exec": "true", "numCores": {"most": 1}}, "Unknown numCores attribute most"),
        ({"exec": "true", "numNodes": {"min": "1"}}, "Invalid numNodes attribute min type <class 'str'>"),
        ({"exec": "true", "iteration": {"start": 1}}, "Required attribute stop of element iteration not defined"),
        (
            {"exec": "true", "iteration": {"stop": 1, "values": [1]}},
            "Stop and values iteration attribute are excluding",
        ),
        ({"exec": "true", "iteration": 10**7 + 1}, "Wrong number of iterations - outside range (0, 10000000)"),
        (
            {"exec": "true", "iteration": {"start": 2, "stop": 1}},
            "Wrong number of iterations - outside range (0, 10000000)",
        ),
    ],
)
def test_what_breaks_a_rule_is_refused_in_the_old_words(attributes: dict[str, Any], text: str) -> None:
    jobs = Jobs()
    with pytest.raises(InvalidJobDescriptionError) as caught:
        jobs.add(attributes)
    assert caught.value.what == text
    assert len(jobs) == 0


def test_add_std_passes_the_description_through() -> None:
    job = {"name": "a", "execution": {"exec": "true"}, "resources": {"numCores": {"exact": 1}}}
    assert Jobs().add_std(job).ordered_jobs() == [job]
    with pytest.raises(InvalidJobDescriptionError, match='Missing "execution/exec" key'):
        Jobs().add_std(name="b", execution={})


def test_a_name_can_be_used_once_until_it_is_removed() -> None:
    jobs = Jobs().add(name="a", exec="true").add(name="b", exec="true")
    with pytest.raises(InvalidJobDescriptionError, match="Job a already in list"):
        jobs.add(name="a", exec="true")
    jobs.remove("a")
    with pytest.raises(JobNotDefinedError):
        jobs.remove("a")
    assert jobs.add(name="a", exec="true").ordered_job_names() == ["b", "a"]
    assert jobs.clear() == 2


def test_a_saved_file_loads_again(tmp_path: Path) -> None:
    saved = Jobs().add(name="a", exec="true", iteration=3).add(name="b", script="date")
    saved.save_to_file(tmp_path / "jobs.json")
    loaded = Jobs()
    loaded.load_from_file(tmp_path / "jobs.json")
    assert loaded.ordered_jobs() == saved.ordered_jobs()


@pytest.mark.parametrize("content", [None, "not json", "{}", "[1]"])
def test_a_file_that_is_no_list_of_jobs_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "jobs.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(FileError, match=f'File to open/write file "{path}"'):
        Jobs().load_from_file(path)
