"""Edited, interrupted and submitted again, in any order: nothing runs twice, and nothing is listed that is gone."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sshd import Sshd
from takeover_site import Site, no_sleep

from pilotfish.launcher.contexts.globs import MissingFileError
from pilotfish.launcher.contexts.local import LocalContext
from pilotfish.launcher.submission import store as record
from pilotfish.launcher.submission.placement import Placement
from pilotfish.pilot.model.errors import RefusedError


@pytest.fixture
def site(wd: Path, submission: Callable[..., Placement]) -> Iterator[Site]:
    site = Site(wd, submission)
    yield site
    site.open()
    site.end_all()


# --- the sequences that somebody ran ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edited", ["ab", "ba", "bac", "cba"])
def test_a_job_that_runs_is_part_of_the_edited_submission(site: Site, edited: str) -> None:
    """Wherever it stands in the new order."""
    site.interrupt("a")
    site.open()
    assert site.submit(edited)
    assert site.starts() == Counter(edited)
    assert [site.result(name) for name in edited] == list(edited)
    assert site.listed() == []
    assert site.on_machine() == []


def test_what_was_finished_as_part_of_another_is_not_run_again(site: Site) -> None:
    site.interrupt("a")
    site.open()
    assert site.submit("ab")
    site.told.clear()
    assert site.submit("a")
    assert site.starts() == Counter("ab")
    assert "all 1 tasks have ended before and their inputs are the same: nothing to run" in site.told
    assert (site.listed(), site.on_machine()) == ([], [])


def test_an_input_that_has_changed_since_is_noticed(site: Site) -> None:
    site.interrupt("a")
    site.open()
    site.submit("ab")
    site.send("a", "new")
    assert site.submit("a")
    assert site.starts() == Counter("aab")
    assert site.result("a") == "new"


def test_an_input_that_has_changed_before_the_edit_is_noticed(site: Site) -> None:
    site.interrupt("a")
    site.send("a", "new")
    site.open()
    assert site.submit("ab")
    assert site.starts() == Counter("aab")
    assert site.result("a") == "new"


def test_an_edit_whose_input_is_missing_touches_nothing(site: Site) -> None:
    site.interrupt("a")
    there = site.on_machine()
    (site.wd / "here/w/b/in").unlink()
    for edited in ("ab", "ba"):
        with pytest.raises(MissingFileError):
            site.submit(edited)
    assert site.on_machine() == there
    assert len(site.listed()) == 1
    site.open()
    assert site.submit("a")
    assert site.starts() == Counter("a")
    assert (site.listed(), site.on_machine()) == ([], [])


def test_an_edit_that_is_mended_goes_on(site: Site) -> None:
    """A; B with a missing file; C, another form of B that is right; then A once more."""
    site.interrupt("a")
    (site.wd / "here/w/b/in").unlink()
    with pytest.raises(MissingFileError):
        site.submit("ab")
    site.send("b")
    site.open()
    assert site.submit("ab", forward_common_files=[])
    assert site.submit("cab")
    assert site.starts()["c"] == 1
    assert site.result("a") == "a"
    assert (site.listed(), site.on_machine()) == ([], [])


def test_there_and_back_again(site: Site) -> None:
    """Edited, interrupted, taken back, edited again: the job and its folder go along."""
    site.interrupt("a")
    site.interrupt("ab")
    site.interrupt("abc")
    with pytest.raises(RefusedError, match=r"is under way as part of submission \w+, which has other jobs under way"):
        site.submit("a")
    site.check_listing()
    assert len(site.listed()) == 1
    site.interrupt("cab")
    site.open()
    assert site.submit("abc")
    assert site.starts() == Counter("abc")
    assert (site.listed(), site.on_machine()) == ([], [])


def test_the_older_form_says_where_its_jobs_are(site: Site) -> None:
    site.interrupt("a")
    older = site.submission("a")
    site.interrupt("ab")
    newer = site.submission("ab")
    for act in (older.cancel, lambda: older.run(only_watch=True)):
        with pytest.raises(RefusedError, match=f"it has become part of submission {newer.hash[:10]}"):
            act()
    with pytest.raises(record.UnknownSubmissionError, match=f"has become part of {newer.hash[:10]}"):
        record.find(older.hash)


def test_a_submission_with_other_jobs_under_way_keeps_them(site: Site) -> None:
    site.interrupt("ab")
    with pytest.raises(RefusedError) as caught:
        site.submit("bc")
    assert "pilotfish submissions watch" in caught.value.remedy
    site.open()
    assert site.submit("ab")
    assert site.submit("bc")
    assert site.starts()["a"] == 1


def test_a_task_that_runs_with_other_resources_does_not_run_beside_itself(site: Site) -> None:
    site.interrupt("a")
    with pytest.raises(RefusedError, match="with other resources or another group_size"):
        site.submit("ab", resources={"group_size": 2})
    site.open()
    assert site.submit("a")
    assert site.starts() == Counter("a")


def test_results_that_are_kept_count_and_are_kept(site: Site) -> None:
    site.open()
    assert site.submit("a", clean="never")
    kept = site.on_machine()
    assert site.submit("ab")
    assert site.starts() == Counter("ab")
    assert site.on_machine() == kept
    assert [each.peek().counts()["done"] for each in site.listed()] == [1]


def test_a_cancelled_job_runs_again_as_part_of_the_edit(site: Site) -> None:
    site.interrupt("a")
    assert site.submission("a").cancel() == 1
    site.open()
    assert site.submit("ab")
    assert site.starts() == Counter("aab")
    assert (site.listed(), site.on_machine()) == ([], [])


def test_a_job_that_had_not_begun_is_not_begun_by_the_older_form(site: Site) -> None:
    """`max_jobs` 1: of A one job runs; the edit runs the other; who watches A then finds nothing of that left to run."""

    def ctrl_c(seconds: float) -> None:
        if site.starts():
            raise KeyboardInterrupt
        no_sleep(seconds)

    one = {"resources": {"max_jobs": 1}}
    with pytest.raises(KeyboardInterrupt):
        site.submit("ab", sleep=ctrl_c, **one)
    (begun,) = site.starts()
    (other,) = {"a", "b"} - {begun}
    site.open(other)
    assert site.submit(other, **one)
    site.open()
    (left,) = site.listed()
    left.run(only_watch=True, check_interval_s=0.5)
    assert site.starts() == Counter("ab")
    assert (site.listed(), site.on_machine()) == ([], [])


def test_a_failed_edit_leaves_no_record(site: Site) -> None:
    (site.wd / "here/w/a/in").unlink()
    with pytest.raises(MissingFileError):
        site.submit("a")
    assert site.listed() == []


def test_removing_an_old_name_leaves_the_folder(wd: Path) -> None:
    (wd / "real").mkdir()
    (wd / "old").symlink_to("real")
    with LocalContext(wd, str(wd), {}) as context:
        context.remove(str(wd / "old"))
    assert os.listdir(wd) == ["real"]


@pytest.mark.parametrize("spelled", ["there/", "./there", "there//", "$BASE/there"])
def test_however_the_folder_on_the_machine_is_written(
    site: Site, monkeypatch: pytest.MonkeyPatch, spelled: str
) -> None:
    """Two ways to write one folder are no two folders."""
    monkeypatch.setenv("BASE", str(site.wd))
    site.interrupt("a")
    site.open()
    root = spelled if spelled.startswith("$") else f"{site.wd}/{spelled}"
    assert site.submit("a", machine={"remote_root": root})
    assert site.starts() == Counter("a")
    assert (site.result("a"), site.on_machine(), site.listed()) == ("a", [], [])


def test_over_ssh_however_the_folder_there_is_written(sshd: Sshd, site: Site) -> None:
    """What the home folder is only the machine knows."""
    below_home = os.path.relpath(site.wd / "there", Path.home())
    machine = {"context_type": "SSH", "remote_profile": sshd.profile}
    site.interrupt("a", machine=machine | {"remote_root": str(site.wd / "there")})
    site.open()
    assert site.submit("ab", machine=machine | {"remote_root": f"$HOME/{below_home}/"})
    assert site.starts() == Counter("ab")
    assert (site.result("a"), site.on_machine(), site.listed()) == ("a", [], [])


def test_another_machine_at_the_same_address_is_another(sshd: Sshd, site: Site) -> None:
    """Behind forwarded ports all are called localhost: what one runs the other knows nothing of."""
    machine = {"context_type": "SSH", "remote_root": str(site.wd / "there")}
    site.interrupt("a", machine=machine | {"remote_profile": sshd.profile})
    with Sshd(site.wd / "another-sshd") as other:
        site.open()
        assert site.submit("a", machine=machine | {"remote_profile": other.profile})
    assert site.starts() == Counter("aa")
    assert [each.peek().counts()["tasks"] for each in site.listed()] == [1]  # the first goes on by itself


@pytest.mark.parametrize("batch_type", ["Slurm", "SlurmJobArray", "PBS", "LSF", "SGE"])
def test_another_batch_system_is_not_asked_for_a_job(
    site: Site, monkeypatch: pytest.MonkeyPatch, batch_type: str
) -> None:
    """It would not know the id, or name another job by it; so the job is not taken over, and does not run twice."""
    asked = site.wd / "asked"
    (site.wd / "bin").mkdir()
    for name in ("sbatch", "squeue", "sacct", "scancel", "qsub", "qstat", "qdel", "bsub", "bjobs", "bkill"):
        (site.wd / "bin" / name).write_text(f"#!/bin/sh\necho {name} >>{asked}\necho 4242\n")
        (site.wd / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{site.wd}/bin:{os.environ['PATH']}")
    site.interrupt("a")
    with pytest.raises(RefusedError, match=r"under way as part of submission .*another batch system \(Shell\)"):
        site.submit("a", machine={"batch_type": batch_type})
    assert not asked.exists()
    site.open()
    assert site.submit("a")
    assert (site.starts(), site.result("a"), site.listed()) == (Counter("a"), "a", [])


def test_a_relative_folder_stays_where_it_was(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One may come back from another folder, or with a variable that means another by now."""
    (site.wd / "elsewhere").mkdir()
    for name, root in (("a", "there"), ("b", "$BASE/there")):
        monkeypatch.chdir(site.wd)
        monkeypatch.setenv("BASE", str(site.wd))
        site.interrupt(name, machine={"remote_root": root})
        monkeypatch.chdir(site.wd / "elsewhere")
        monkeypatch.setenv("BASE", str(site.wd / "elsewhere"))
        site.open(name)
        (listed,) = site.listed()
        assert listed.run(only_watch=True, check_interval_s=0.5).over
        assert site.result(name) == name
    assert site.starts() == Counter("ab")
    assert (site.on_machine(), os.listdir(site.wd / "elsewhere")) == ([], [])


def test_inputs_are_looked_at_once_after_a_takeover(site: Site) -> None:
    """Whoever watches it to its end needs them no more, also when the takeover had nothing to send."""
    machine = {"remote_profile": {"symlink": False}}
    site.interrupt("ab", machine=machine)
    site.interrupt("ab", machine=machine, forward_common_files=["a/in"])
    (site.wd / "here/w/a/in").unlink()
    site.open()
    (listed,) = site.listed()
    assert listed.run(only_watch=True, check_interval_s=0.5).over
    assert (site.result("a"), site.result("b"), site.starts()) == ("a", "b", Counter("ab"))


def test_results_that_are_not_home_keep_their_folder_from_an_older_form(site: Site) -> None:
    """The folder of the older form is that of the edit: what runs in it anew would end with its removal."""
    site.interrupt("a")
    silent = {**site.task("b"), "command": "true"}
    assert not site.make(site.task("a"), silent).run(detach=True, check_interval_s=0.5).over
    site.open()
    (edit,) = site.listed()
    with pytest.raises(MissingFileError):
        edit.run(only_watch=True, check_interval_s=0.5)
    site.send("a", "other")
    with pytest.raises(RefusedError, match=r"not home are in the folder of this one; `pilotfish submissions watch"):
        site.submit("a")
    assert Path(edit.work(edit.context()).root, "b").is_dir()


def test_an_older_form_does_not_move_the_folder_in_which_an_edit_runs(site: Site) -> None:
    site.interrupt("a")
    site.submit("ab", detach=True)
    site.open("a")
    (edit,) = site.listed()
    with edit.opened() as opened:
        while not any(job.is_home for job in opened.progress.jobs.values()):
            opened.runner.look()
            opened.runner.step()
    with pytest.raises(RefusedError, match=r"is under way as part of submission .*, in the folder of this one"):
        site.submit("a")
    site.open()
    assert edit.run(only_watch=True, check_interval_s=0.5).over
    assert (site.result("b"), site.starts()) == ("b", Counter("ab"))


def test_the_record_of_another_user_of_the_folder_is_left_alone(site: Site) -> None:
    """The same tasks in another project are other work."""
    site.interrupt("a")
    shutil.copytree(site.wd / "here", site.wd / "other")
    site.open()
    assert site.submit("ab", machine={"local_root": str(site.wd / "other")})
    assert site.starts() == Counter("aab")
    assert json.loads((site.wd / "other/w/results.json").read_text())
