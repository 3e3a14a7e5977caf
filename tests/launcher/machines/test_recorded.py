"""Scripts, requests and status words agree with DPDispatcher 1.1.0's, for all its machines (golden/make_machines.py)."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from pilotfish.launcher.contexts.registry import context_class
from pilotfish.launcher.contexts.staged import SentJob
from pilotfish.launcher.description.identity import job_hash
from pilotfish.launcher.description.resources import Resources
from pilotfish.launcher.description.task import Task
from pilotfish.launcher.job.spec import JobToPlace
from pilotfish.launcher.job.states import JobState
from pilotfish.launcher.machines.bohrium import Bohrium
from pilotfish.launcher.machines.openapi import OpenAPI
from pilotfish.launcher.machines.registry import build_machine
from pilotfish.launcher.machines.yarn import DistributedShell

RECORDED = json.loads((Path(__file__).parents[1] / "golden" / "machines.json").read_text())
PLAIN = next(each for each in RECORDED["scripts"] if each["machine"] == "OpenAPI")
CLOUDS: dict[str, Any] = {"Bohrium": Bohrium, "OpenAPI": OpenAPI}


def job(case: dict[str, Any], root: str = "/staged/S") -> JobToPlace:
    """The recorded job, whose tasks are in the order of its group."""
    known = {task.task_hash: task for task in map(Task.load_from_dict, RECORDED["tasks"])}
    resources = Resources.load_from_dict({**case["resources"], "batch_type": case["machine"]})
    tasks = tuple(known[name] for name in case["tasks"])
    assert job_hash(tasks, resources) == case["job_hash"]
    return JobToPlace(case["job_hash"], "", tasks, tuple(case["tasks"]), resources, root)


@pytest.mark.parametrize(
    "case", RECORDED["scripts"], ids=lambda case: f"{case['machine']}-{'rich' if case['flags'] else 'plain'}"
)
def test_a_script_asks_for_the_same_and_sets_the_same(case: dict[str, Any]) -> None:
    """The directives, the lines of the site, then modules, sources and variables in the same order; the same job and file."""
    placed = job(case)
    text = build_machine(case["machine"]).script(placed)[placed.script_name]
    assert placed.script_name == case["file"]
    head = [line.strip() for line in text.partition("\n\n")[0].splitlines()]
    wanted = [line.strip() for line in [*case["header"], *case["flags"].splitlines()] if line.strip()]
    # A trace of the script would go into the tasks' error logs.
    directives = sorted(line for line in wanted if not line.startswith("#!") and line != "set -x")
    assert sorted(line for line in head if not line.startswith("#!")) == directives
    words = [shlex.split(line) for line in text.splitlines() if re.match(r"(export [A-Z_]+=|module|source /)", line)]
    if case["machine"] == "DistributedShell":  # there jobs are not told what was asked for
        words = [each for each in words if not each[1].startswith("DPDISPATCHER_")]
    assert words == [shlex.split(line) for line in case["environment"]]


def test_yarn_is_asked_for_the_same() -> None:
    """But the script is where it can be found, the name says which attempt it is, and where files are is told."""
    case = next(each for each in RECORDED["scripts"] if each["machine"] == "DistributedShell")
    placed = job(case)
    recorded = re.search(r"nohup (.*) 1>", RECORDED["yarn_command"])
    assert recorded is not None
    there = shlex.split(recorded[1])
    ours = shlex.split(DistributedShell().client(placed, "/user/ann/S"))
    at = there.index("-appname") + 1
    there[at] += ".S.0"
    there[-1] = f"/staged/S/{placed.script_name}"
    at = there.index("-master_memory")
    assert ours == [*there[:at], "-shell_env", "PILOTFISH_HDFS=/user/ann/S", *there[at:]]


def way(kind: str) -> Any:
    profile = {"access_key": "key", **RECORDED["profiles"][kind]}
    return context_class(f"{kind}Context")(Path("/"), None, profile)


def test_bohrium_is_asked_for_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Besides its results a job brings back what tells how it went."""
    monkeypatch.setenv("PILOTFISH_HOME", str(tmp_path))
    recorded, placed = RECORDED["bohrium_request"], job({**PLAIN, "machine": "Bohrium"})
    sent = SentJob(placed.hash, 0, placed.root, key="program/12/uuid/job.zip")
    asked = Bohrium().request(way("Bohrium"), sent, placed)
    assert compared(asked, placed) == compared(recorded["body"], placed)


def test_openapi_is_asked_for_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PILOTFISH_HOME", str(tmp_path))
    recorded, placed = RECORDED["openapi_requests"][1], job(PLAIN)
    sent = SentJob(placed.hash, 0, placed.root, key=f"store/7/{placed.hash}.zip", ticket={"id": 7})
    asked = OpenAPI().request(way("OpenAPI"), sent, placed)
    assert compared(asked, placed) == compared(recorded["body"], placed)


def compared(body: dict[str, Any], placed: JobToPlace) -> dict[str, Any]:
    """A request, without what only ours brings back; the order of that means nothing."""
    own = {f"{placed.hash}_result.json", f".{placed.hash}.reason", f".{placed.hash}.tasks"}
    own |= {
        f"{task.task_work_path}/{log}".replace("//", "/") for task in placed.tasks for log in (task.outlog, task.errlog)
    }
    lists = ("outFiles", "backwardFiles")
    return {name: sorted(set(value) - own) if name in lists else value for name, value in body.items()}


@pytest.mark.parametrize("kind", ["Bohrium", "OpenAPI"])
def test_status_words_mean_the_same(kind: str) -> None:
    """But a word that nobody knows is no end of the job here."""
    for word, code, ignore, state in RECORDED["states"][kind]:
        context = context_class(f"{kind}Context")(Path("/"), None, {"ignore_exit_code": ignore})
        found = CLOUDS[kind]().status(context, {"status": word, "exitCode": code})
        assert found.state is JobState(state), (word, code, ignore)
        assert found.exit_code == code
