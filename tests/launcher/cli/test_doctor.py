"""What `pilotfish doctor` finds of a machine: through the layer that submissions use, and with a job of its own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from liar import Liar

from pilotfish.launcher.cli.doctor import examine
from pilotfish.launcher.cli.trial_job import run_trial_job
from pilotfish.launcher.contexts.base import Context, Finding
from pilotfish.launcher.contexts.local import LocalContext
from pilotfish.launcher.contexts.registry import build_context
from pilotfish.launcher.contexts.shell import sh
from pilotfish.launcher.contexts.ssh import rsync
from pilotfish.launcher.description.machine import parse_machine
from pilotfish.launcher.description.resources import Resources
from pilotfish.launcher.job.spec import JobToPlace
from pilotfish.launcher.job.states import JobState, Listing, Status
from pilotfish.launcher.machines.base import SubmitRefusedError
from pilotfish.launcher.machines.shell import Shell

WAIT_S = 60.0


def findings(*, wait_s: float = 0.0, **machine: Any) -> dict[str, Finding]:
    given = parse_machine({"batch_type": "Shell", "context_type": "Local", "local_root": ".", **machine})
    with build_context(given) as context:
        return {found.what: found for found in examine(given, context, wait_s=wait_s)}


def test_a_sound_machine_has_run_a_job_and_nothing_is_left_of_it(wd: Path) -> None:
    found = findings(wait_s=WAIT_S, remote_root=str(wd / "there"))
    assert all(each.ok or each.warning for each in found.values()), found
    assert found["job of one second"].found.startswith("ran on ")
    assert list((wd / "there").iterdir()) == []


def test_without_a_wait_no_job_is_run(wd: Path) -> None:
    assert "job of one second" not in findings(remote_root=str(wd))


@pytest.mark.parametrize("root", ["~/work", "$SCRATCH/work"])
def test_it_says_which_folder_a_root_means(wd: Path, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(wd))
    monkeypatch.setenv("SCRATCH", str(wd))
    assert findings(remote_root=root)["write access"] == Finding(
        "write access", True, f"{root}, which is {wd}/work", "what was written could not be read again"
    )


def test_a_variable_that_is_not_set_is_found(wd: Path) -> None:
    found = findings(remote_root="$NOT_SET/work")["write access"]
    assert (found.ok, found.warning, found.found) == (False, False, "$NOT_SET is not set here")


@pytest.fixture
def full(wd: Path) -> Iterator[Path]:
    """A disk with room for a name but not for a file of any size, as with a quota that is used up."""
    (wd / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", wd / "disk"], check=True)
    yield wd / "disk"
    subprocess.run(["umount", wd / "disk"], check=True)


def test_a_full_disk_is_found(full: Path) -> None:
    found = findings(remote_root=str(full))
    assert not found["write access"].ok
    assert "No space left" in found["write access"].found
    assert list(full.iterdir()) == []


def test_over_ssh_a_machine_without_rsync_and_with_another_clock_is_found(liar: Liar, wd: Path) -> None:
    server = liar.lie(rsync="exit 127", date="/usr/bin/date -d '+1000 seconds' \"$@\"")
    machine: dict[str, Any] = {"context_type": "SSH", "remote_root": str(wd), "remote_profile": server.profile}
    found = findings(**machine)
    assert (found["rsync"].found, found["rsync"].warning) == ("none there, or one older than 3.1", True)
    assert (found["clock"].ok, found["clock"].warning) == (False, True)
    assert re.fullmatch(r"\+\d+\.\d s from here", found["clock"].found)
    assert re.fullmatch(r"new files there are -\d+ s from its own clock", found["clock of files"].found)
    machine["remote_profile"] = liar.lie().profile
    found = findings(**machine)
    assert found["rsync"].ok == rsync.is_here()
    assert (found["clock"].ok, "clock of files" in found) == (True, False)


@pytest.mark.parametrize("line", ["exec cat", "exit 0"])
def test_a_profile_that_replaces_the_shell_is_found(wd: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of a batch system would do nothing; without one they do not read it, and it is a warning."""
    monkeypatch.setenv("HOME", str(wd))
    (wd / ".bash_profile").write_text(f"echo Welcome\n{line}\n")
    for batch_type in ("Slurm", "Shell"):
        found = findings(batch_type=batch_type, remote_root=str(wd))["login profile"]
        assert "replaces or ends the shell" in found.found
        assert found.warning == (batch_type == "Shell")


# --- the job --------------------------------------------------------------------------------------------------------------


class Queue(Shell):
    """A batch system that says of all jobs what a test wants it to say."""

    settle_s = 1.0

    def __init__(self, status: Status | None, output: str = "", refusal: str = "") -> None:
        self.status, self.output, self.refusal = status, output, refusal
        self.cancelled: list[str] = []

    def submit(self, context: Context, job: JobToPlace) -> str:
        if self.refusal:
            raise SubmitRefusedError(self.refusal)
        context.write({f"{job.root}/slurm-7.out": self.output.encode()})
        return "7"

    def query(self, context: Context, ids: Sequence[str]) -> Listing:
        return Listing({} if self.status is None else dict.fromkeys(ids, self.status))

    def cancel(self, context: Context, ids: Sequence[str]) -> None:
        self.cancelled += ids


def trial(wd: Path, queue: Queue, **resources: Any) -> Any:
    seconds = [0.0]

    def sleep(pause_s: float) -> None:
        seconds[0] += pause_s

    context = LocalContext(wd, str(wd), {})
    return run_trial_job(queue, context, Resources(**resources), str(wd), 30.0, lambda: seconds[0], sleep)


def test_a_job_that_waits_for_too_long_is_ended_and_is_no_fault(wd: Path) -> None:
    queue = Queue(Status(JobState.waiting, "PENDING"))
    found = trial(wd, queue)
    assert (found.ok, found.waits, queue.cancelled) == (False, True, ["7"])
    assert found.found == "job 7 was still PENDING after 30 s, and was ended"


def test_a_job_that_is_refused_is_told_in_the_words_of_the_batch_system(wd: Path) -> None:
    assert trial(wd, Queue(None, refusal="Invalid account")).found == "was not taken: Invalid account"


def test_a_job_that_ends_without_a_word_is_told_with_what_it_has_printed(wd: Path) -> None:
    found = trial(wd, Queue(None, output="node7: cannot chdir to /scratch\n"))
    assert (found.ok, found.waits) == (False, False)
    assert found.found == "job 7 has ended without a word: node7: cannot chdir to /scratch"


def test_a_job_takes_from_a_submission_where_it_runs_and_not_how_large_it_is(wd: Path) -> None:
    """`prepend_script` counts too: a line that fails there fails here."""
    found = {}
    for line in ("true", "exit 9"):
        context = LocalContext(wd, str(wd), {})
        resources = Resources(number_node=900, cpu_per_node=64, prepend_script=[line])
        found[line] = run_trial_job(Shell(), context, resources, str(wd), WAIT_S)
    assert found["true"].ok
    assert "ended with code 9" in found["exit 9"].found


def test_all_commands_of_the_doctor_are_text_of_the_shell_layer(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What works for it works for submissions."""
    commands: list[object] = []
    run = LocalContext.run

    def recorded(self: LocalContext, command: str, **more: Any) -> Any:
        commands.append(command)
        return run(self, command, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalContext, "run", recorded)
    findings(remote_root=str(wd))
    assert len(commands) > 5
    assert {type(each) for each in commands} == {type(sh("true"))}
