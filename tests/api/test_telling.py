"""Telling about work never decides about the work: exit codes with a full disk, a closed pipe, or no streams at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotfish import Jobs, LocalManager
from pilotfish.api.outcome import read_outcome
from pilotfish.pilot.model.ids import JobNo
from pilotfish.pilot.model.job_spec import Execution, Iteration, JobSpec
from pilotfish.pilot.wire import journal, records
from pilotfish.pilot.wire.replies import TaskCounts

ENDS = {
    "full": ">/dev/full 2>/dev/full",
    "closed": "<&- >&- 2>&-",
    "no stderr": "2>&-",
    "full stderr": "2>/dev/full",
    "no stdout": ">&-",
    "reader gone": "2>&1 | true",
}


def shell(wd: Path, line: str) -> tuple[int, str, str]:
    """Run a line in which `pilotfish` is our command; returns the exit code of it, and what could be printed."""
    script = f'set -o pipefail; pilotfish() {{ "{sys.executable}" -m pilotfish "$@"; }}; {line}'
    done = subprocess.run(["bash", "-c", script], cwd=wd, capture_output=True, text=True, timeout=100, check=False)
    assert "Traceback" not in done.stderr + done.stdout
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_work_that_was_done_is_done_whatever_can_be_said_of_it(wd: Path, end: str) -> None:
    (wd / "tasks.txt").write_text("echo a\ncat; echo b >&2\n")
    assert shell(wd, f"pilotfish run --nodes 2 tasks.txt --json {end}")[0] == 0
    printed = [path.read_text() for path in sorted((wd / "pilotfish-output").iterdir())]
    assert printed == ["", "a\n", "b\n", ""]  # .err and .out of each


def test_work_that_failed_has_failed_whatever_can_be_said_of_it(wd: Path) -> None:
    (wd / "tasks.txt").write_text("exit 3\n")
    assert shell(wd, f"pilotfish run --nodes 1 tasks.txt --json {ENDS['full']}")[0] == 1
    assert shell(wd, f"pilotfish run nothing.txt {ENDS['full']}")[0] == 2


@pytest.fixture
def pilot(wd: Path) -> Iterator[LocalManager]:
    with LocalManager(["--wd", str(wd), "--nodes", "1"], {"log_file": "/dev/null"}) as manager:
        yield manager


@pytest.mark.parametrize("as_json", ["", "--json"])
def test_commands_to_a_pilot_tell_by_their_code_what_was_done(wd: Path, pilot: LocalManager, as_json: str) -> None:
    (wd / "tasks.txt").write_text("true\n")
    full = ENDS["full"]
    assert shell(wd, f"pilotfish submit tasks.txt {as_json} {full}")[0] == 0
    assert list(pilot.list()) == ["line-1"]
    assert shell(wd, f"pilotfish watch {as_json} {full}")[0] == 0
    assert shell(wd, f"pilotfish cancel line-1 {as_json} {full}")[0] == 1
    assert shell(wd, f"pilotfish remove line-1 {as_json} {full}")[0] == 0
    assert pilot.list() == {}
    assert shell(wd, f"pilotfish finish {as_json} {full}")[0] == 0


def test_a_list_that_cannot_be_printed_is_one_clear_error(wd: Path, pilot: LocalManager) -> None:
    pilot.submit(Jobs().add(name="a", exec="true"))
    code, _, err = shell(wd, "pilotfish jobs --json >/dev/full")
    assert (code, err) == (1, "Error: stdout: cannot be written: No space left on device\n")
    assert shell(wd, "pilotfish status | true")[2] == ""


def test_a_summary_that_cannot_be_printed_is_said_once(wd: Path) -> None:
    code, _, err = shell(wd, "pilotfish run --nodes 1 --json -- true >/dev/full")
    assert (code, err) == (0, "stdout: cannot be written: No space left on device\n")


# --- jobs.report --------------------------------------------------------------------------------------------------------


def entry(name: str, state: str = "SUCCEED", **more: object) -> str:
    return json.dumps({"name": name, "state": state, "history": [], "runtime": {}} | more) + "\n"


def accepted(wd: Path, *jobs: JobSpec) -> None:
    """A journal in which these were accepted."""
    record = records.Submitted(JobNo(0), 1.0, list(jobs), [JobNo(number) for number in range(len(jobs))])
    (wd / journal.FILE_NAME).write_bytes(journal.HEADER + journal.encode(record))


def test_a_torn_report_costs_no_counts_that_are_known_otherwise(wd: Path) -> None:
    accepted(wd, *(JobSpec(name, Execution(exec="true")) for name in "abc"))
    (wd / "jobs.report").write_text(entry("a") + entry("b", "FAILED") + entry("c")[:20])
    counts = TaskCounts(total=3, in_schedule=0, failed=1, finished=2, executing=0)
    outcome = read_outcome(wd, 1.0, counts)
    assert (outcome.tasks, outcome.succeeded, outcome.failed) == (3, 2, 1)
    assert outcome.problem.startswith("jobs.report is not complete (a line is torn;")


def test_a_job_is_not_counted_beside_its_iterations_however_it_ended(wd: Path) -> None:
    """One iteration ran before the rest was canceled; nothing of another job was ever started."""
    execution = Execution(exec="true")
    accepted(wd, JobSpec("a", execution, iteration=Iteration(0, 5)), JobSpec("b", execution, iteration=Iteration(0, 3)))
    lines = (
        entry("a:0")
        + entry("a", "CANCELED", execution={}, iterations=5)
        + entry("b", "OMITTED", execution={}, iterations=3)
    )
    (wd / "jobs.report").write_text(lines)
    outcome = read_outcome(wd, 1.0, None)
    assert (outcome.tasks, outcome.succeeded, outcome.failed) == (8, 1, 7)
    assert [(failure.name, failure.message) for failure in outcome.failures] == [
        ("a", "4 tasks were not started"),
        ("b", "3 tasks were not started"),
    ]
    assert outcome.more == 0


@pytest.fixture
def small_disk(wd: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    disk = wd / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_run_whose_report_finds_no_room_tells_its_counts_and_why(small_disk: Path) -> None:
    """The first task fills the disk and makes room before it ends, so that only the report was in want of it."""
    (small_disk / "tasks.txt").write_text("dd if=/dev/zero of=big bs=1k 2>/dev/null; exit 0\n")
    code, out, err = shell(small_disk, "pilotfish run --nodes 1 --no-output tasks.txt --json")
    assert code == 0, err
    assert (json.loads(out)["tasks"], json.loads(out)["failed"]) == (1, 0)
    code, _, err = shell(small_disk, "pilotfish run --continue -q")
    assert (code, len(err.splitlines())) == (1, 1), err
    assert err.startswith(f"Error: {small_disk}/.qcgpjm-service-")
    assert err.endswith(": No space left on device; make room, then start again\n")


# --- Ctrl-C -------------------------------------------------------------------------------------------------------------

EARLY = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["pilotfish", "run", "-"]
from pilotfish.__main__ import main

class Interrupts:
    "Whatever is imported then, Ctrl-C comes in that moment."
    def find_spec(self, name, path=None, target=None):
        if name == WHEN:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
main()
"""


@pytest.mark.parametrize("module", ["click", "pilotfish.commands", "pilotfish.api.run", "zmq", "msgspec"])
def test_ctrl_c_while_a_command_is_being_loaded_says_nothing(wd: Path, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"WHEN = {module!r}\n{EARLY}"],
        cwd=wd,
        input="{}",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_nothing_is_imported_before_ctrl_c_is_answered() -> None:
    """Until then Python answers it, with a traceback: so that time is kept as short as it can be."""
    program = "import sys; before = set(sys.modules); import pilotfish.__main__; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    light = {"__future__", "os", "signal", "sys", "types", "enum", "pilotfish", "pilotfish.__main__"}
    assert set(done.stdout.split()) <= light
