"""Edited, interrupted and submitted again, in any order: nothing runs twice, and nothing is listed that is gone."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sshd import Sshd

from pilotfish.launcher.cli.submissions import submissions
from pilotfish.launcher.contexts.globs import MissingFileError
from pilotfish.launcher.contexts.local import LocalContext
from pilotfish.launcher.submission import store as record
from pilotfish.launcher.submission.placement import Placement
from pilotfish.launcher.submission.state import Phase
from pilotfish.pilot.model.errors import RefusedError

NAMES = "abcd"


class Killed(BaseException):
    """The launcher is gone at this moment."""


class Site:
    """Tasks that note their start in a ledger, wait for their gate, and bring back what they were sent."""

    def __init__(self, wd: Path, make: Callable[..., Placement]) -> None:
        self.wd = wd
        self.make = make
        self.told: list[str] = []
        for name in NAMES:
            (wd / "here/w" / name).mkdir(parents=True)
            self.send(name)

    def task(self, name: str) -> dict[str, Any]:
        gate, ledger = self.wd / f"gate-{name}", self.wd / "ledger"
        return {
            "command": f"echo {name} >>{ledger}; until [ -e {gate} ]; do sleep 0.05; done; cat in >out",
            "task_work_path": name,
            "forward_files": ["in"],
            "backward_files": ["out"],
        }

    def send(self, name: str, text: str = "") -> None:
        (self.wd / "here/w" / name / "in").write_text(text or name)

    def open(self, names: str = NAMES) -> None:
        for name in names:
            (self.wd / f"gate-{name}").touch()

    def submission(self, names: str, **given: Any) -> Placement:
        tools = {"tell": self.told.append, "sleep": given.pop("sleep", _no_sleep)}
        return self.make(*map(self.task, names), tools=tools, **given)

    def submit(self, names: str, **given: Any) -> bool:
        options = {key: given.pop(key) for key in ("detach", "clean") if key in given}
        return self.submission(names, **given).run(check_interval_s=0.5, **options).over

    def interrupt(self, names: str, **given: Any) -> None:
        """Ctrl-C while the jobs run."""

        def ctrl_c(seconds: float) -> None:
            if all(started in self.starts() for started in names):
                raise KeyboardInterrupt
            _no_sleep(seconds)

        with pytest.raises(KeyboardInterrupt):
            self.submit(names, sleep=ctrl_c, **given)

    def starts(self) -> Counter[str]:
        ledger = self.wd / "ledger"
        return Counter(ledger.read_text().split() if ledger.exists() else ())

    def result(self, name: str) -> str | None:
        out = self.wd / "here/w" / name / "out"
        return out.read_text() if out.exists() else None

    def listed(self) -> list[Placement]:
        return [Placement.of(each, tell=self.told.append, sleep=_no_sleep) for each in record.all_records()]

    def on_machine(self) -> list[str]:
        there = self.wd / "there"
        return sorted(os.listdir(there)) if there.exists() else []

    def check_listing(self) -> None:
        """What is listed as placed has its folder."""
        for each in self.listed():
            if any(job.phase is Phase.PLACED for job in each.peek().jobs.values()):
                root = Path(each.work(each.context()).root)
                assert root.is_dir(), f"{each.hash} is listed as placed and its folder is gone"

    def end_all(self) -> None:
        for each in self.listed():
            each.cancel()


def _no_sleep(seconds: float) -> None:
    import time

    time.sleep(min(seconds, 0.05))


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
        _no_sleep(seconds)

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


# --- any sequence -------------------------------------------------------------------------------------------------------------


@contextmanager
def killed_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The launcher dies before or after one of the things it does: a line on disk, a file in its place, a command."""
    left = steps

    def dies(act: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                if (
                    args and isinstance(args[0], subprocess.Popen) and args[0].stdin
                ):  # a command goes on when who started it is gone
                    args[0].stdin.close()
                    args[0].wait()
                raise Killed
            done = act(*args, **options)
            left -= 1
            if left == 0:
                raise Killed
            return done

        return wrapped

    with monkeypatch.context() as patch:
        for owner, name in ((os, "fsync"), (os, "replace"), (os, "symlink"), (subprocess.Popen, "communicate")):
            patch.setattr(owner, name, dies(getattr(owner, name)))
        yield


class Model:
    """What may have been started so far: once each, and once more for whatever was cancelled, removed or over and forgotten."""

    def __init__(self, site: Site, chance: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = site
        self.chance = chance
        self.allowed = Counter(dict.fromkeys(NAMES, 1))
        self.log: list[str] = []
        self._patch = monkeypatch

    def again(self, names: str) -> None:
        """A later submission may run these once more."""
        for name in names:
            self.allowed[name] = self.site.starts()[name] + 1

    def names(self) -> str:
        return "".join(self.chance.sample(NAMES, self.chance.randint(1, 3)))

    def submit(self) -> None:
        names, steps = self.names(), self.chance.choice([0, self.chance.randint(1, 80)])
        self.log.append(f"submit {names}" + (f", killed after {steps} steps" if steps else ", detached"))
        with killed_after(steps or -1, self._patch):
            over = self.site.submit(names, detach=True)
        if over:
            self.again(names)

    def submit_without_an_input(self) -> None:
        names = self.names()
        missing = self.chance.choice(names)
        self.log.append(f"submit {names} without the input of {missing}")
        path = self.site.wd / "here/w" / missing / "in"
        path.rename(path.with_name("hidden"))
        try:
            with pytest.raises(MissingFileError):
                self.site.submit(names, detach=True)
        finally:
            path.with_name("hidden").rename(path)

    def watch(self) -> None:
        each = self._listed()
        if each is not None:
            self.log.append(f"watch {_names(each)}")
            self.site.open(_names(each))
            each.run(only_watch=True, check_interval_s=0.5)
            for name in _names(each):
                (self.site.wd / f"gate-{name}").unlink()
            self.again(_names(each))

    def cancel(self) -> None:
        each = self._listed()
        if each is not None:
            self.log.append(f"cancel {_names(each)}")
            each.cancel()
            self.again(_names(each))

    def clean(self) -> None:
        each = self._listed()
        if each is not None:
            self.log.append(f"clean {_names(each)}")
            CliRunner().invoke(submissions, ["clean", each.hash, "--force"], catch_exceptions=False)
            self.again(_names(each))

    def bring_to_end(self, each: Placement) -> bool:
        """False when that has to wait for another one."""
        self.log.append(f"end {_names(each)}")
        try:
            return each.run(only_watch=True, check_interval_s=0.5).over
        except RefusedError as error:
            self.log.append(f"  refused: {error}")
            return False

    def step(self) -> None:
        act = self.chance.choice(
            [*[self.submit] * 5, self.submit_without_an_input, self.watch, self.cancel, self.clean]
        )
        try:
            act()
        except RefusedError as error:
            self.log.append(f"  refused: {error}")
        except Killed:
            self.log.append("  killed")
        starts = self.site.starts()
        assert all(starts[name] <= self.allowed[name] for name in NAMES), f"{starts} after {self.log}"
        try:
            self.site.check_listing()
        except AssertionError as error:
            raise AssertionError(f"{error} after {self.log}") from None

    def _listed(self) -> Placement | None:
        listed = self.site.listed()
        return self.chance.choice(listed) if listed else None


def _names(each: Placement) -> str:
    return "".join(task.task_work_path for task in each.description.tasks)


@pytest.mark.parametrize("seed", range(4))
def test_any_sequence(site: Site, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """In the end everything that is listed is brought to its end, and nothing is left anywhere."""
    model = Model(site, random.Random(seed), monkeypatch)
    for _ in range(12):
        model.step()
    site.open()
    while listed := site.listed():
        ended = [model.bring_to_end(each) for each in listed]
        assert any(ended), "\n".join(model.log)
    starts = site.starts()
    assert all(starts[name] <= model.allowed[name] for name in NAMES), f"{starts} after {model.log}"
    assert all(site.result(name) in (None, name) for name in NAMES)
    links = [name for name in site.on_machine() if (site.wd / "there" / name).is_symlink()]
    assert links == [], model.log


def test_the_record_of_another_user_of_the_folder_is_left_alone(site: Site) -> None:
    """The same tasks in another project are other work."""
    site.interrupt("a")
    shutil.copytree(site.wd / "here", site.wd / "other")
    site.open()
    assert site.submit("ab", machine={"local_root": str(site.wd / "other")})
    assert site.starts() == Counter("aab")
    assert json.loads((site.wd / "other/w/results.json").read_text())
