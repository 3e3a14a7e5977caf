"""A batch system that nobody has heard of: one file here, one for the pilot, a line in each registry (see `toy/`).

Nothing else knows of it: jobs, arrays of commands, the old interfaces, `doctor` and pilots take it from there. Its programs are
four scripts that really run jobs.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilotfish.launcher.cli.doctor import examine
from pilotfish.launcher.compat import fyrd
from pilotfish.launcher.compat.clusterjob.jobscript import JobScript
from pilotfish.launcher.contexts.registry import build_context
from pilotfish.launcher.description.machine import parse_machine
from pilotfish.launcher.description.resources import Resources
from pilotfish.launcher.machines import registry
from pilotfish.launcher.submission.placement import Placement
from pilotfish.launcher.submission.runner import SubmissionFailedError

TOY = Path(__file__).parent / "toy"
# Files in $TOYS: `last` (number), `NUMBER.pid`, `NUMBER.end`; `says` is what a job waits for, `full` turns jobs away.
PROGRAMS = {
    "toysub": """\
[ ! -e $TOYS/full ] || { echo 'sorry, too many toys' >&2; rm $TOYS/full; exit 1; }
number=t$(($(cat $TOYS/last 2>/dev/null | tr -d t || echo 0) + 1))
echo $number >$TOYS/last
cp "$1" $TOYS/$number.script
if [ ! -e $TOYS/says ]; then
  hosts=$(sed -n 's/^#TOY hosts=//p' "$1") cpus=$(sed -n 's/^#TOY cpus=//p' "$1")
  export TOY_JOB=$number TOY_CPUS=$cpus TOY_HOSTS=$(seq -s , -f 'h%.0f' "$hosts")
  (setsid bash "$1" >$number.words 2>&1 </dev/null & echo $! >$TOYS/$number.pid; wait $!; echo $? >$TOYS/$number.end) \\
    >/dev/null 2>&1 </dev/null &
fi
echo "toy $number is on its way"
""",
    "toystat": """\
for number in "$@"; do
  if [ -e $TOYS/$number.gone ] || [ ! -e $TOYS/$number.script ]; then echo "$number: no such toy" >&2
  elif [ -e $TOYS/says ]; then echo "$number LINE $(cat $TOYS/says)"
  elif [ ! -e $TOYS/$number.end ]; then echo "$number ON"
  elif [ "$(cat $TOYS/$number.end)" = 0 ]; then echo "$number OK"
  else echo "$number BAD"; fi
done
""",
    "toydel": """\
for number in "$@"; do
  touch $TOYS/$number.gone
  [ ! -e $TOYS/$number.pid ] || kill -- -$(cat $TOYS/$number.pid) 2>/dev/null
done
true
""",
    "toyrun": 'shift 2; exec "$@"\n',
}


@pytest.fixture(autouse=True)
def toys(wd: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder, programs = wd / "toys", wd / "bin"
    folder.mkdir()
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}")
        (programs / name).chmod(stat.S_IRWXU)
    python = programs / "toypython"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={TOY} exec {sys.executable} "$@"\n')
    python.chmod(stat.S_IRWXU)
    monkeypatch.setenv("TOYS", str(folder))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.syspath_prepend(str(TOY))
    monkeypatch.setitem(registry.HOMES, "Toy", "toy_batch")
    yield folder
    sys.modules.pop("toy_batch", None)


def soon(seconds: float) -> None:
    time.sleep(seconds / 10)


@pytest.fixture
def make(wd: Path, submission: Callable[..., Placement]) -> Callable[..., Placement]:
    told: list[str] = []

    def made(*commands: str, **given: Any) -> Placement:
        tasks = [{"command": text, "task_work_path": f"t{at}"} for at, text in enumerate(commands)]
        for task in tasks:
            (wd / "here/w" / task["task_work_path"]).mkdir(parents=True, exist_ok=True)
        made = submission(*tasks, machine={"batch_type": "toybox"}, tools={"tell": told.append, "sleep": soon}, **given)
        made.told = told  # type: ignore[attr-defined]
        return made

    return made


def test_jobs_run_on_it(make: Callable[..., Placement], toys: Path, wd: Path) -> None:
    made = make("echo $TOY_JOB >out", "echo b >out", resources={"queue_name": "q", "walltime": 90, "cpu_per_node": 2})
    (toys / "full").touch()  # the first is turned away once
    assert made.run(check_interval_s=0.5, clean=False).over
    lines = (toys / "t1.script").read_text().split("\n\n")[0].splitlines()
    assert lines == ["#!/bin/bash -l", "#TOY hosts=1", "#TOY cpus=2", "#TOY belt=q", "#TOY minutes=2"]
    root = Path(made.context().root_for(made.hash, "w"))
    assert sorted((root / f"t{at}/out").read_text().strip() for at in range(2))[1] in ("t1", "t2")
    assert {job.id for job in made.peek().jobs.values()} == {"t1", "t2"}
    assert any("too many toys" in line for line in made.told)  # type: ignore[attr-defined]


def test_its_keys_are_checked_and_get_their_defaults() -> None:
    assert Resources.load_from_dict({"group_size": 1, "batch_type": "toy", "kwargs": {}}).kwargs == {"colour": "red"}
    assert registry.names()[-1] == "Toy"


def test_the_old_interfaces_have_it() -> None:
    script = JobScript("true", jobname="j", backend="toy", nodes=2, queue="q", time="0:30", x="y")
    assert script.render_script("", jobscript=True).splitlines()[1:] == [
        "#TOY label=j",
        "#TOY hosts=2",
        "#TOY belt=q",
        "#TOY minutes=1",
        "#TOY -x y",
    ]
    wanted = {"nodes": 2, "cores": 3, "depends": ["t7"]}
    assert fyrd.options_to_string(wanted, "toy").splitlines() == ["#TOY hosts=2", "#TOY cpus=3", "#TOY after=t7"]
    assert "qos" not in fyrd.option_help("list", qtype="toy")


def test_doctor_looks_for_its_programs(toys: Path, wd: Path) -> None:
    (wd / "bin/toydel").unlink()
    given = {"batch_type": "Toy", "context_type": "Local", "local_root": str(wd), "remote_root": str(wd / "there")}
    machine = parse_machine(given)
    with build_context(machine) as context:
        found = {finding.what: finding.ok for finding in examine(machine, context, queue="q")}
    assert (found["command toydel"], found["batch system"], found["queue"]) == (False, True, False)


def test_what_its_jobs_wait_for_is_told_and_those_that_can_never_start_end(
    make: Callable[..., Placement], toys: Path
) -> None:
    (toys / "says").write_text("broken wheel\n")
    made = make("true")
    with pytest.raises(SubmissionFailedError, match="can never start: broken wheel"):
        made.run(check_interval_s=0.5)
    assert [line for line in made.told if "waits: broken wheel" in line]  # type: ignore[attr-defined]
    assert (toys / "t1.gone").exists()
    assert not (toys / "t2.script").exists()


def test_the_last_words_of_a_job_that_left_no_record_are_told(make: Callable[..., Placement], toys: Path) -> None:
    made = make("true", resources={"prepend_script": ["echo the disk of this node is sick; kill -9 $$"]})
    with pytest.raises(SubmissionFailedError, match="the disk of this node is sick"):
        made.run(check_interval_s=0.5)


def test_a_pilot_runs_on_its_nodes(make: Callable[..., Placement], toys: Path, wd: Path) -> None:
    tasks = [f"echo $QCG_PM_ALLOCATION $TOY_JOB >out{at}; hostname" for at in range(4)]
    pilot = {"python": str(wd / "bin/toypython"), "options": ["--log", "debug"]}
    made = make(*tasks, resources={"group_size": 0, "number_node": 2, "cpu_per_node": 2}, pilot=pilot)
    assert made.run(check_interval_s=0.5, clean=False).over
    root = Path(made.context().root_for(made.hash, "w"))
    assert [(root / f"t{at}/out{at}").exists() for at in range(4)] == [True] * 4
    nodes = {result.node for job in made.peek().jobs.values() for result in job.results.values()}
    assert nodes <= {"h1", "h2"}
    assert nodes
