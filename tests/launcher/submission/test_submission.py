"""A submission from its description to its results, on this machine."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilotfish.launcher.contexts.globs import MissingFileError
from pilotfish.launcher.description.schema import DescriptionError
from pilotfish.launcher.submission import store as record
from pilotfish.launcher.submission.batch_job import Phase
from pilotfish.launcher.submission.placement import Placement
from pilotfish.launcher.submission.runner import SubmissionFailedError

Make = Callable[..., Placement]


def task(folder: str, command: str = "cat in >out; echo x >>count", **more: Any) -> dict[str, Any]:
    return {
        "command": command,
        "task_work_path": folder,
        "forward_files": ["in"],
        "backward_files": ["out", "count"],
        **more,
    }


@pytest.fixture
def work(wd: Path) -> Path:
    """The local folder of the tasks, with inputs of `a` and `b`."""
    for name in "ab":
        (wd / "here/w" / name).mkdir(parents=True)
        (wd / "here/w" / name / "in").write_text(f"input of {name}\n")
    return wd / "here/w"


def rows(work: Path) -> dict[str, dict[str, Any]]:
    return {row["folder"]: row for row in json.loads((work / "results.json").read_text())}


def test_what_tasks_make_comes_home_and_nothing_is_left_there(submission: Make, work: Path, wd: Path) -> None:
    outcome = submission(task("a"), task("b")).run()
    assert outcome.over
    assert (work / "a/out").read_text() == "input of a\n"
    assert [row["exit_code"] for row in rows(work).values()] == [0, 0]
    assert [row["folder"] for row in csv.DictReader((work / "results.csv").read_text().splitlines())] == ["a", "b"]
    assert os.listdir(wd / "there") == []
    assert record.names() == []


def test_a_task_that_fails_is_told_with_its_last_words_and_the_others_come_home(submission: Make, work: Path) -> None:
    tasks = task("a"), task("b", "echo oh no >&2; exit 3")
    with pytest.raises(SubmissionFailedError) as caught:
        submission(*tasks).run()
    text = str(caught.value)
    assert "1 of 2 jobs failed for good" in text
    assert "task in b: exit code 3" in text
    assert "oh no" in text
    assert (work / "a/out").exists()
    assert (work / "b/err").read_text() == "oh no\n", "logs of what failed come home too"
    assert (rows(work)["b"]["state"], rows(work)["b"]["exit_code"], rows(work)["b"]["reason"]) == (
        "failed",
        3,
        "exit code 3",
    )


def test_a_time_limit_is_told_as_such_without_a_batch_system_too(submission: Make, work: Path) -> None:
    with pytest.raises(SubmissionFailedError, match="time limit"):
        submission(task("a", "sleep 1000"), resources={"walltime": "1s"}).run()
    assert rows(work)["a"]["reason"] == "time limit"


def test_a_failed_job_is_placed_again_as_often_as_said_and_by_later_runs_only_when_asked(
    submission: Make, work: Path
) -> None:
    tasks = (task("a", "cat in; echo x >>$REMOTE_ROOT/tries; [ -e $REMOTE_ROOT/go ]", backward_files=[]),)
    for number, options in enumerate([{}, {}, {"retry_failed": True}]):
        made = submission(*tasks, machine={"retry_count": 1})
        root = Path(made.context().root_for(made.hash, "w"))
        if number == 2:
            (root / "go").touch()
            made.run(clean=False, **options)
        else:
            with pytest.raises(SubmissionFailedError):
                made.run(**options)
        assert (root / "tries").read_text().count("x") == [2, 2, 3][number]


def test_a_second_run_does_nothing_unless_an_input_has_changed(submission: Make, work: Path) -> None:
    told: list[str] = []
    for _ in range(2):
        submission(task("a"), task("b"), tools={"tell": told.append}).run(clean=False)
    assert told[-1] == "all 2 tasks have ended before and their inputs are the same: nothing to run"
    (work / "a/in").write_text("other\n")
    submission(task("a"), task("b"), tools={"tell": told.append}).run(clean=False)
    assert any("run again: inputs changed: a/in" in line for line in told)
    assert (work / "a/out").read_text() == "other\n"
    assert ((work / "a/count").read_text(), (work / "b/count").read_text()) == ("x\nx\n", "x\n")


def test_a_changed_common_file_concerns_all(submission: Make, work: Path) -> None:
    (work / "model").write_text("1")
    tasks = [task(name, "cat ../model in >out; echo x >>count") for name in "ab"]
    submission(*tasks, forward_common_files=["model"]).run(clean=False)
    (work / "model").write_text("2")
    submission(*tasks, forward_common_files=["model"]).run(clean=False)
    assert [(work / name / "out").read_text() for name in "ab"] == ["2input of a\n", "2input of b\n"]


def test_in_the_project_itself_results_are_not_stale_either(submission: Make, work: Path) -> None:
    lazy = {"context_type": "LazyLocal"}
    for text in ("1\n", "2\n"):
        (work / "a/in").write_text(text)
        submission(task("a"), machine=lazy).run()
        assert (work / "a/out").read_text() == text
    assert sorted(os.listdir(work / "a")) == ["count", "err", "in", "log", "out"], "nothing of ours is left"


def test_a_result_that_was_not_made_is_an_error_and_nothing_is_removed(submission: Make, work: Path, wd: Path) -> None:
    with pytest.raises(MissingFileError, match=r"cannot find download file .*/a/none"):
        submission(task("a", backward_files=["out", "none"])).run()
    assert (work / "a/out").exists()
    assert os.listdir(wd / "there") != []


def test_an_input_that_is_not_there_is_an_error_before_anything_is_submitted(submission: Make, work: Path) -> None:
    made = submission(task("a", forward_files=["none"]))
    with pytest.raises(MissingFileError, match="cannot find upload file"):
        made.run()
    assert all(job.phase is Phase.NEW for job in made.peek().jobs.values())


def test_detached_jobs_are_found_again_by_id(submission: Make, work: Path) -> None:
    assert not submission(task("a"), task("b")).run(detach=True).over
    found = record.find("last")
    assert Placement.of(found).run().over
    assert (work / "b/out").exists()


def test_cancel_ends_jobs_with_all_that_runs_in_them(
    submission: Make, work: Path, wait_until: Callable[..., None]
) -> None:
    made = submission(task("a", "sleep 1000 & echo $! >$REMOTE_ROOT/pid; wait"))
    made.run(detach=True)
    pid = Path(made.context().root_for(made.hash, "w"), "pid")
    wait_until(lambda: pid.exists() and pid.read_text().strip(), "the task to start")
    assert made.cancel() == 1
    wait_until(lambda: not Path("/proc", pid.read_text().strip()).exists(), "the task to end")
    assert {job.phase for job in made.peek().jobs.values()} == {Phase.CANCELED}


def test_enough_is_enough(submission: Make, work: Path) -> None:
    slow = task("b", "sleep 1000", backward_files=[])
    ratio = {"strategy": {"ratio_unfinished": 0.5}}
    submission(task("a"), slow, resources=ratio).run()
    assert {name: row["state"] for name, row in rows(work).items()} == {"a": "finished", "b": "cancelled"}


def test_no_more_jobs_at_once_than_said(submission: Make, work: Path) -> None:
    command = "mkdir $REMOTE_ROOT/one && sleep 0.3 && rmdir $REMOTE_ROOT/one"
    tasks = [task(name, command, forward_files=[], backward_files=[], outlog=None) for name in "abc"]
    submission(*tasks, resources={"max_jobs": 1}).run()


def test_groups_in_one_job_and_common_results(submission: Make, work: Path) -> None:
    tasks = [task(name, "cat in >out; echo x >>count; cat in >>../all") for name in "ab"]
    submission(*tasks, resources={"group_size": 0}, backward_common_files=["all"]).run()
    assert sorted((work / "all").read_text().splitlines()) == ["input of a", "input of b"]
    assert len({row["job"] for row in rows(work).values()}) == 1


def test_scripts_are_shown_without_doing_anything(submission: Make, work: Path, wd: Path) -> None:
    texts = submission(task("a")).scripts()
    assert len(texts) == 2
    assert any("cat in >out" in text for text in texts.values())
    assert not (wd / "there").exists()
    assert record.names() == []


def test_dpdispatchers_record_lies_beside_the_jobs_without_secrets(submission: Make, work: Path) -> None:
    made = submission(task("a"))
    made.run(clean=False)
    root = Path(made.context().root_for(made.hash, "w"))
    found = json.loads((root / f"{made.hash}.json").read_text())
    (job,) = (entry for entries in found["belonging_jobs"] for entry in entries.values())
    assert job["job_state"] == 5
    assert job["job_task_list"][0]["task_work_path"] == "a"
    assert made.hash == record.find(made.hash[:6]).hash


def test_with_other_resources_what_was_done_before_counts(submission: Make, work: Path) -> None:
    tasks = task("a"), task("b", "cat in >out; echo x >>count; [ -e $REMOTE_ROOT/go ]")
    first = submission(*tasks)
    with pytest.raises(SubmissionFailedError):
        first.run()
    Path(first.context().root_for(first.hash, "w"), "go").touch()
    more = {"resources": {"group_size": 1, "para_deg": 2}, "previous_submission_hash": first.hash}
    assert submission(*tasks, **more).run(clean=False).over
    assert [(work / name / "count").read_text() for name in "ab"] == ["x\n", "x\nx\n"]
    assert record.names() == [submission(*tasks, **more).hash]


@pytest.mark.parametrize("clean", ["sometimes", 3])
def test_an_unknown_clean_strategy(submission: Make, work: Path, clean: Any) -> None:
    with pytest.raises(DescriptionError, match="Unknown clean strategy"):
        submission(task("a")).run(clean=clean)


def test_ids_that_begin_alike_are_told() -> None:
    with pytest.raises(record.UnknownSubmissionError, match="no submissions begin with 'abc'"):
        record.find("abc")


def test_the_last_of_no_submissions_is_told_as_such() -> None:
    """Also after the first one that ended well, whose record is removed."""
    with pytest.raises(record.UnknownSubmissionError, match="no submission is recorded here; the record of one whose"):
        record.find("last")
