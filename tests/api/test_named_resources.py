"""Named resources from the option that says there are some to the variables of tasks, on real pilots."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from patience import PATIENCE_S

from pilotfish import Executor, Jobs, LocalManager
from pilotfish.api.errors import ServiceError, WrongArgumentsError
from pilotfish.api.run import run

TELL = "env | grep -E 'PILOTFISH_RESOURCE|CUDA' | sort | tr '\\n' ' ' > {}"


def test_run_gives_out_what_its_options_say(wd: Path) -> None:
    """Of nodes and of the pilot, asked for by a job and by an option; four tasks share a GPU."""
    there = ("--resource=nvme=0-3", "--resource=scratch=40G", "--pool-resource=licence=4")
    needs = ("--gpus=1/4", "--need=nvme=1/4", "--need=scratch=10G", "--need=licence=1")
    options = ("--wd", str(wd), "--nodes", "n1:4:1gpu:nvme=[7]", "--iterations", "4", "--quiet", *there, *needs)
    result = CliRunner().invoke(run, [*options, "--", "sh", "-c", TELL.format("$0"), "told-${it}"])
    assert result.exit_code == 0, result.output
    told = {path.read_text() for path in wd.glob("told-*")}
    assert told == {
        "CUDA_VISIBLE_DEVICES=0 PILOTFISH_RESOURCE_GPU=0 PILOTFISH_RESOURCE_GPU_PART=1/4 PILOTFISH_RESOURCE_LICENCE=1 "
        "PILOTFISH_RESOURCE_NVME=7 PILOTFISH_RESOURCE_NVME_PART=1/4 PILOTFISH_RESOURCE_SCRATCH=10737418240 "
    }


def test_a_script_may_say_what_it_needs(wd: Path) -> None:
    script = wd / "job.sh"
    script.write_text(f"#!/bin/sh\n#PILOTFISH --need nvme=2 --need licence=1\n{TELL.format('told')}\n")
    there = ("--resource=nvme=[a,b,c]", "--pool-resource=licence=1")
    result = CliRunner().invoke(run, [str(script), "--nodes", "2", "--wd", str(wd), "--quiet", *there])
    assert result.exit_code == 0, result.output
    assert (wd / "told").read_text() == "PILOTFISH_RESOURCE_LICENCE=1 PILOTFISH_RESOURCE_NVME=a,b "


def test_what_is_no_amount_is_said_with_its_place(wd: Path) -> None:
    for words, error in (
        (["--resource", "nvme"], '--resource: "nvme" says nothing of how much there is'),
        (["--need", "nvme"], "--need: 'nvme' is not how much of a named resource"),
        (["--need", "nvme=1/13"], '"1/13" is too fine'),
        (["--need", "nvme=1"], "1 nvme on a node is needed, no node has nvme"),
    ):
        result = CliRunner().invoke(run, ["--wd", str(wd), "--nodes", "1", "--quiet", *words, "--", "true"])
        assert result.exit_code != 0
        text = f"{result.output} {result.exception}"
        assert error in text, text


def test_run_knows_a_job_with_alternatives_again(wd: Path) -> None:
    """A later --continue runs it once more only if what it may have is another."""
    file = wd / "jobs.json"

    def runs(cores: int) -> str:
        ways = [{"gpu": 1}, {"numCores": cores, "mem": "1G"}]
        execution = {"exec": "sh", "args": ["-c", "echo ran >> ran"]}
        file.write_text(json.dumps([{"name": "a", "execution": execution, "resources": ways}]))
        words = [str(file), "--wd", str(wd), "--nodes", "2", "--quiet", "--continue"]
        result = CliRunner().invoke(run, words)
        assert result.exit_code == 0, result.output
        return (wd / "ran").read_text()

    assert (runs(2), runs(2), runs(1)) == ("ran\n", "ran\n", "ran\nran\n")


def test_jobs_of_python_ask_by_name(wd: Path) -> None:
    with LocalManager(["--wd", wd, "--nodes", 4, "--resource", "nvme=0-1"], {"wdir": wd}) as manager:
        jobs = Jobs().add(name="a", script=TELL.format("told-${it}"), resources={"nvme": 1}, numCores=2, iteration=4)
        manager.submit(jobs)
        manager.wait4all()
        info = manager.info_parsed("a", withChilds=True)["a"]
        assert manager.resources()["named"] == {"nvme": {"total": 2, "free": 2}}
        assert manager.system_status()["Resources"]["Named"] == {"nvme": {"total": 2, "free": 2}}
    assert {(child.status, child.resources) for child in info.childs} <= {
        ("SUCCEED", f"nvme={number}") for number in "01"
    }
    report = [json.loads(line) for line in next(wd.glob(".qcgpjm-service-*/jobs.report")).read_text().splitlines()]
    assert {entry["runtime"]["resources"] for entry in report if ":" in entry["name"]} <= {"nvme=0", "nvme=1"}
    told = Counter(path.read_text() for path in wd.glob("told-*"))
    assert set(told) <= {f"PILOTFISH_RESOURCE_NVME={number} " for number in range(2)}


def test_a_task_gets_what_is_free_first_and_is_told(wd: Path, wait_until: Callable[..., None]) -> None:
    """One GPU for three tasks: the others take cores, and the report says which."""
    script = "echo $$$$QCG_PM_NPROCS $$$$CUDA_VISIBLE_DEVICES > told-${it}; until test -e go; do sleep 0.05; done"
    job = {
        "name": "a",
        "execution": {"script": script},
        "iteration": {"stop": 3},
        "resources": [{"numCores": 2, "wt": "1h"}, {"gpu": 1, "weight": 2, "wt": "1h"}],
    }
    with LocalManager(["--wd", wd, "--nodes", "5:1gpu"], {"wdir": wd}) as manager:
        manager.submit(Jobs().add_std(job))
        wait_until(lambda: len([path for path in wd.glob("told-*") if path.read_text()]) == 3, "all three run")
        (wd / "go").touch()
        manager.wait4all()
        info = manager.info_parsed("a", withChilds=True)["a"]
    told = sorted(path.read_text().split() for path in wd.glob("told-*"))
    assert told == [["1", "0"], ["2"], ["2"]]
    report = [json.loads(line) for line in next(wd.glob(".qcgpjm-service-*/jobs.report")).read_text().splitlines()]
    assert [entry["resources"][0]["nodeCrs"] for entry in report if entry["name"] == "a"] == [{"gpu": 1}]
    assert sorted((child.total_cores, child.resources) for child in info.childs if child.resources) == [(1, "gpu=0")]


@pytest.mark.parametrize("how", [{"apart": True}, {"apart": "db"}, {"numCores": 1, "placement": "exclusive"}])
def test_tasks_that_are_not_to_share_a_node_do_not(wd: Path, how: dict[str, object]) -> None:
    """Each is told its one core, and finds nobody there."""
    script = (
        "mkdir lock-$$$$QCG_PM_NODELIST || echo shared >> wrong; echo $$$$QCG_PM_NPROCS >> ran; sleep 0.1\n"
        "rmdir lock-$$$$QCG_PM_NODELIST"
    )
    job = {"name": "a", "execution": {"script": script}, "iteration": {"stop": 6}, "resources": how}
    with LocalManager(["--wd", wd, "--nodes", "4,4"], {"wdir": wd}) as manager:
        manager.submit(Jobs().add_std(job))
        manager.wait4all()
    assert (wd / "ran").read_text() == "1\n" * 6
    assert not (wd / "wrong").exists()


def test_calls_ask_for_parts_and_names() -> None:
    """A function worker that was told of one device is not given calls for another."""
    names = ("CUDA_VISIBLE_DEVICES", "PILOTFISH_RESOURCE_NVME")

    def told(_: int) -> tuple[str | None, ...]:
        return tuple(map(os.environ.get, names))

    words = ["--nodes", "n1:4:2gpu", "--resource", "nvme=5-6"]
    with Executor(server_args=words) as executor:
        shared = executor.options(gpus=0.5, resources={"nvme": 1})
        assert set(shared.map(told, range(8), timeout=PATIENCE_S)) <= {(gpu, nvme) for gpu in "01" for nvme in "56"}
        none = shared.options(resources={"nvme": None})
        assert none.submit(told, 0).result(PATIENCE_S)[1] is None
        with pytest.raises(WrongArgumentsError, match="'cores' is not a named resource"):
            executor.options(resources={"cores": 1})
        with pytest.raises(WrongArgumentsError, match=r"nvme: 1\.5 is neither whole nor part of one"):
            executor.options(resources={"nvme": 1.5})


def test_a_name_is_of_nodes_or_of_the_pilot(wd: Path) -> None:
    with pytest.raises(ServiceError, match='--pool-resource: "nvme" is node n0\'s too'):
        LocalManager(["--wd", wd, "--nodes", 1, "--resource", "nvme=2", "--pool-resource", "nvme=2"])
