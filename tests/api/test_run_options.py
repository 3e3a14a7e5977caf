"""Options of the pilot that `pilotfish run` passes on to its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from patience import PATIENCE_S

from pilotfish import Jobs, LocalManager, Run
from pilotfish.api.run import run
from pilotfish.pilot.manager.config import OPTIONS
from pilotfish.pilot.options import RUN_OPTIONS, as_words


def test_what_was_said_becomes_words_for_the_service() -> None:
    said: dict[str, object] = {option.field: None for option in RUN_OPTIONS}
    said |= {"kill_grace": 40.0, "end_margin": 0.0, "system_core": True, "net": False, "agent_prelude": "-x y"}
    assert sorted(as_words(said)) == ["--agent-prelude=-x y", "--end-margin=0.0", "--kill-grace=40.0", "--system-core"]


def test_run_has_each_option_that_concerns_a_pilot_of_its_own() -> None:
    taken = {name for parameter in run.params for name in parameter.opts}
    lacking = {option.name for option in OPTIONS if option.group in ("old", "ours")} - {name[2:] for name in taken}
    assert lacking == {
        *("file", "file-path", "report-file"),  # requests and report are the run's
        *("show-progress", "disable-pub", "governor", "parent", "idle-timeout"),
    }


def test_help_shows_them_behind_those_of_the_run() -> None:
    text = CliRunner().invoke(run, ["--help"]).output
    own, of_pilot = text.split("Options of the pilot")
    assert "--iterations" in own
    assert "--kill-grace" not in own
    assert "--kill-grace" in of_pilot
    assert "--help" in own


def test_the_pilot_of_a_run_gets_them(wd: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pilotfish",
        "run",
        "--nodes",
        "1",
        "--id",
        "mine",
        "--kill-grace",
        "3.5",
        "--",
        "true",
    ]
    done = subprocess.run(command, cwd=wd, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert (wd / ".qcgpjm-service-mine" / "jobs.report").exists()


def test_a_value_that_the_pilot_refuses_is_bad_input(wd: Path) -> None:
    command = [sys.executable, "-m", "pilotfish", "run", "--kill-grace", "-1", "--", "true"]
    done = subprocess.run(command, cwd=wd, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 2
    assert done.stderr == "Error: --kill-grace: -1.0 is negative\n"


IGNORED = (
    "job a: models are ignored on one machine, so openmpi starts its program once; "
    "to start a rank on each core use --local-models use"
)


@pytest.mark.parametrize(
    ("words", "state"), [([], "FAILED"), (["--local-models", "ignore"], "SUCCEED"), (["--net-plain"], "SUCCEED")]
)
def test_models_may_be_ignored_on_one_machine(wd: Path, words: list[str], state: str) -> None:
    """As QCG-PilotJob does: for programs that always name a model, and expect one process.

    There is a warning about the first job that would have had several, which `run` shows.
    """
    with LocalManager(["--wd", wd, "--nodes", "2", *words], {"log_file": "/dev/null"}) as pilot:
        options = {"mpirun": "/no/such/mpirun"}
        pilot.submit(
            Jobs()
            .add(name="one", exec="true", model="openmpi", numCores=1)
            .add(name="a", script="echo x >> out", model="openmpi", model_opts=options, numCores=2)
            .add(name="b", exec="true", model="openmpi", model_opts=options, numCores=2),
        )
        assert pilot.wait4("a", PATIENCE_S) == {"a": state}
        warnings = pilot.client.status().system.warnings or []
    assert warnings == ([] if state == "FAILED" else [IGNORED])
    if state == "SUCCEED":
        assert (wd / "out").read_text() == "x\n"


def test_a_rule_gives_the_next_attempt_more_time(wd: Path) -> None:
    """The first is stopped by its limit; the second has a hundred times as much, after a pause."""
    rule = 'reason="wall time" wt=600 pause=0.1s'
    script = wd / "again.sh"
    script.write_text("#!/bin/bash\ntest -e once && exit 0\ntouch once\nsleep 100\n")
    script.chmod(0o755)
    words = ["--nodes", "1", "--wt", "0.5s", "--retry", rule, "--json", "--", "./again.sh"]
    done = subprocess.run(
        [sys.executable, "-m", "pilotfish", "run", *words], cwd=wd, capture_output=True, text=True, check=False
    )
    assert (done.returncode, json.loads(done.stdout)["succeeded"]) == (0, 1), done.stderr
    assert Run("last", wd).task("task").attempts == 2
