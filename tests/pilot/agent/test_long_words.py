"""The kernel takes no word longer than 128 KiB: scripts and lines do, and what cannot be started says which limit it was."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fake_manager import POOL, FakeManager, iterations
from patience import wait_until

from pilotfish.pilot.model.job_spec import Execution
from pilotfish.pilot.wire import frames
from pilotfish.pilot.wire.frames import Cause, NodeShare

LONG = ": " + "y" * 300_000
TELL = 'echo "$0 $# $(cat)"'


def files_of_scripts(folder: Path) -> list[Path]:
    return list(folder.glob("*.sh"))


@pytest.mark.parametrize("text", [f"{LONG}\n{TELL}", f"{TELL}; {LONG}", f"{LONG}é\n{TELL}"])
def test_a_script_of_any_length_runs_as_a_short_one_does(manager: FakeManager, text: str) -> None:
    """`$0`, its arguments and its stdin are the same; the file that was made for it is gone with it."""
    (manager.folder / "in").write_text("given")
    assert manager.run(Execution(script=TELL, stdin="in", stdout="short")).exit_code == 0
    assert manager.run(Execution(script=text, stdin="in", stdout="long")).exit_code == 0
    assert (manager.folder / "long").read_text() == (manager.folder / "short").read_text() == "bash 0 given\n"
    assert files_of_scripts(manager.folder) == []


def test_the_exit_code_of_a_long_script_is_its_own(manager: FakeManager) -> None:
    assert manager.run(Execution(script=f"{LONG}\nexit 7")).exit_code == 7


def test_arguments_behind_an_environment_are_one_text_of_any_length(manager: FakeManager) -> None:
    """A shell prepares the environment and becomes the program, so all words are in its text."""
    activate = manager.folder / "env/bin/activate"
    activate.parent.mkdir(parents=True)
    activate.write_text("export PREPARED=yes\n")
    program = "import os, sys; print(os.environ['PREPARED'], len(sys.argv), sum(map(len, sys.argv)))"
    args = ("-c", program, *["a b'c" * 20] * 5000)
    end = manager.run(Execution(exec=sys.executable, args=args, venv=str(manager.folder / "env"), stdout="out"))
    assert (end.exit_code, end.message) == (0, "")
    assert (manager.folder / "out").read_text() == "yes 5001 500002\n"


def test_a_program_over_several_nodes_has_its_long_script_in_the_shared_folder(manager: FakeManager) -> None:
    """As a launcher would hand it to ranks elsewhere; here the execution model starts it once."""
    grant = manager.grant(more_nodes=[NodeShare("n2", ["0"], [])])
    assert manager.run(Execution(script=f"{LONG}\n{TELL}", stdout="out"), grant=grant).exit_code == 0
    assert (manager.folder / "out").read_text() == "bash 0 \n"
    assert files_of_scripts(manager.folder) == []


def test_iterations_share_one_file_which_goes_with_the_job(manager: FakeManager) -> None:
    count = 20
    job = manager.job(
        "many", Execution(script=f"{LONG}\necho x >> out; ls | grep -c 'sh$' >> files"), is_iteration=True
    )
    manager.work([job], [manager.grant()], {POOL: iterations(job, count)})
    manager.until(lambda heard: len(heard.finished) == count)
    assert {end.exit_code for end in manager.heard.finished} == {0}
    assert (manager.folder / "out").read_text() == "x\n" * count
    assert set((manager.folder / "files").read_text().split()) == {"1"}
    manager.send(frames.Forget([job.job_no]))
    wait_until(lambda: files_of_scripts(manager.folder) == [], "the file is removed")


@pytest.mark.parametrize(
    ("execution", "said"),
    [
        (
            Execution(exec="true", args=("x" * 200_000,)),
            "[Errno 7] Argument list too long: an argument has 200000 bytes, the kernel takes 131071",
        ),
        (
            Execution(exec="true", env={"V": "x" * 200_000}),
            "[Errno 7] Argument list too long: a variable has 200002 bytes, the kernel takes 131071",
        ),
        (
            Execution(exec="true", args=("x" * 100_000,) * 100),
            "[Errno 7] Argument list too long: arguments and variables",
        ),
    ],
)
def test_what_cannot_be_started_names_the_limit(manager: FakeManager, execution: Execution, said: str) -> None:
    end = manager.run(execution)
    assert end.cause is Cause.NOT_STARTED
    assert end.message.startswith(said)
