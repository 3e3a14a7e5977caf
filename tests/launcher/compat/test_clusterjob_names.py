"""clusterjob's names besides scripts and results: backends of one's own, arrays, tools, the command that tries a backend."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pilotfish import AsyncResult, JobScript
from pilotfish.launcher.compat.clusterjob import backends, cli, own_backend, utils
from pilotfish.launcher.compat.clusterjob.headers import ResourcesNotSupportedError
from pilotfish.launcher.compat.clusterjob.status import CANCELLED, COMPLETED, FAILED, PENDING, RUNNING
from pilotfish.launcher.compat.clusterjob.surroundings import array_elements
from pilotfish.launcher.job.single import Phase, from_dict, to_dict
from pilotfish.launcher.machines import registry


@pytest.fixture(autouse=True)
def pristine(wd: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(wd)
    monkeypatch.setattr(registry, "_own", {})
    monkeypatch.setattr(own_backend, "_registered", {})
    monkeypatch.setattr(JobScript, "backend", "shell")
    yield
    JobScript.read_defaults()


class Mine(backends.ClusterjobBackend):
    """A queue of two small programs: each job is a process whose number is its id."""

    name, extension = "mine", "job"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def cmd_submit(self, jobscript: Any) -> str:
        self.asked.append(jobscript.filename)
        return f"setsid bash {jobscript.filename} >job.log 2>&1 </dev/null & echo your job is $!"

    def get_job_id(self, response: str) -> str | None:
        return response.rsplit(maxsplit=1)[-1] if "your job is" in response else None

    def cmd_status(self, run: Any, finished: bool = False) -> list[str]:
        return ["sh", "-c", f"kill -0 {run.job_id} && echo there || echo gone"]

    def get_status(self, response: str, finished: bool = False) -> int | None:
        return RUNNING if "there" in response else COMPLETED

    def cmd_cancel(self, run: Any) -> list[str]:
        return ["sh", "-c", f"kill -- -{run.job_id}"]

    def resource_headers(self, jobscript: Any) -> list[str]:
        return [f"#MINE {key}={value}" for key, value in jobscript.resources.items()]

    def replace_body_vars(self, body: str) -> str:
        return body.replace("$CLUSTERJOB_NAME", "$MY_NAME")


def test_a_backend_of_ones_own_writes_submits_follows_and_cancels(wd: Path) -> None:
    """All seven methods of the interface are called, and the exit code is known as on every batch system."""
    mine = Mine()
    JobScript.register_backend(mine)
    assert "mine" in JobScript.backends
    script = JobScript("MY_NAME=x; echo $CLUSTERJOB_NAME > out; exit 3", "j", backend="mine", nodes=2)
    assert str(script).splitlines() == [
        "#!/bin/bash",
        "#MINE jobname=j",
        "#MINE nodes=2",
        "MY_NAME=x; echo $MY_NAME > out; exit 3",
    ]
    result = script.submit()
    assert (result.get(), result.exit_code, (wd / "out").read_text()) == (FAILED, 3, "x\n")
    assert mine.asked == [f".{result.job.hash}.sub"] if result.job else False
    result.dump("kept")
    assert AsyncResult.load("kept").status == FAILED

    longer = JobScript("sleep 1000", "j", backend="mine").submit()
    assert longer.status == RUNNING
    longer.cancel()
    assert longer.status == CANCELLED


def test_a_backend_may_take_the_name_of_one_of_ours() -> None:
    class Changed(backends.SlurmBackend):
        def resource_headers(self, jobscript: Any) -> list[str]:
            return [*super().resource_headers(jobscript), "#SBATCH --comment=mine"]

    JobScript.register_backend(Changed())
    assert "#SBATCH --comment=mine" in str(JobScript("true", "j", backend="slurm"))
    JobScript.register_backend(Changed(), name="second")
    assert "second" in JobScript.backends


def test_what_is_no_backend_is_refused() -> None:
    with pytest.raises(TypeError, match="must be an instance of ClusterjobBackend, not int"):
        JobScript.register_backend(3)
    with pytest.raises(TypeError, match="abstract"):
        backends.ClusterjobBackend()  # type: ignore[abstract]


def test_backends_are_named_on_the_class_and_on_scripts() -> None:
    expected = {"slurm", "pbs", "pbspro", "lpbs", "lsf", "sge", "shell"}
    assert expected <= set(JobScript.backends) == set(JobScript("true", "j").backends)
    assert JobScript.backends == sorted(JobScript.backends)


class Run:
    job_id = "17"


REPLIES = [
    (backends.SlurmBackend, "Submitted batch job 42\n", "42", "PENDING\n", PENDING, "CANCELLED by 0\n", CANCELLED),
    (backends.PbsBackend, "7.host\n", "7.host", "7.host n u 0 R q\n", RUNNING, "7.host n u 0 C q\n", COMPLETED),
    (backends.PbsProBackend, "7.host\n", "7.host", "7.host n u 0 Q q\n", PENDING, "7.host n u 0 F q\n", COMPLETED),
    (backends.LPbsBackend, "7.host\n", "7.host", "7.host n u 0 R q\n", RUNNING, "7.host n u 0 C q\n", COMPLETED),
    (backends.LsfBackend, "hello\nJob <7> is submitted\n", "7", "7|RUN|-|-|-\n", RUNNING, "7|EXIT|3|-|-\n", FAILED),
]


@pytest.mark.parametrize(("kind", "taken", "job_id", "early", "first", "late", "last"), REPLIES)
def test_backends_read_what_their_batch_systems_print(
    kind: type[Any], taken: str, job_id: str, early: str, first: int, late: str, last: int
) -> None:
    """The id of a submission and the status of a job, from replies as they are printed."""
    backend = kind()
    assert (backend.get_job_id(taken), backend.get_job_id("no id here")) == (job_id, None)
    assert (backend.get_status(early), backend.get_status(late, finished=True)) == (first, last)
    assert backend.get_status("") is None
    assert all("17" in "".join(command(Run())) for command in (backend.cmd_status, backend.cmd_cancel))


def test_backends_know_directives_and_variables() -> None:
    script = JobScript("true", "j", nodes=2)
    script.filename = "j.slr"
    slurm, lpbs = backends.SlurmBackend(), backends.LPbsBackend()
    assert slurm.resource_headers(script) == ["#SBATCH --job-name=j", "#SBATCH --nodes=2"]
    assert slurm.cmd_submit(script) == ["sbatch", "--parsable", "j.slr"]
    assert lpbs.cmd_submit(script) == ["lqsub", "j.slr"]
    assert slurm.replace_body_vars("$CLUSTERJOB_ID ${CLUSTERJOB_NAME} $CLUSTERJOB_NAMEX") == (
        "$SLURM_JOB_ID $SLURM_JOB_NAME $CLUSTERJOB_NAMEX"
    )
    assert backends.time_to_minutes("0:0:30") == 1


def test_an_array_is_over_when_each_of_its_elements_is(wd: Path) -> None:
    """Each element writes a record; the job has ended badly when one of them has."""
    assert array_elements("0-3,7%2") == (0, 1, 2, 3, 7)
    assert array_elements("1-9:4") == (1, 5, 9)
    job = JobScript("true", "j", backend="slurm", array="0-1")._new_job()
    assert from_dict(json.loads(json.dumps(to_dict(job.record)))).elements == (0, 1)
    written = {
        "job": job.hash,
        "attempt": 0,
        "id": "1",
        "node": "n",
        "start_s": 1.0,
        "append_exit_code": 0,
        "tasks": [],
    }
    texts = [json.dumps({**written, "exit_code": code, "end_s": 5.0 + code}).encode() for code in (0, 3)]
    first, second = job.record_paths
    assert job.own_status({first: texts[0]}) is None
    found = job.own_status({first: texts[0], second: texts[1]})
    assert found is not None
    assert (found.exit_code, found.start_s, found.end_s) == (3, 1.0, 8.0)
    assert job.record.phase is Phase.NEW


def test_where_arrays_cannot_be_followed_they_are_refused() -> None:
    with pytest.raises(ResourcesNotSupportedError, match="not followed on Shell"):
        JobScript("true", "j", array="0-3").submit()
    with pytest.raises(ValueError, match="no list of indexes"):
        JobScript("true", "j", backend="slurm", array="all").submit()


def test_only_our_files_go_when_the_cache_is_cleared(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobScript, "cache_folder", str(wd / "cache"))
    (wd / "cache").mkdir()
    (wd / "cache/other").touch()
    JobScript("true", "j").submit(block=True)
    assert len(list((wd / "cache").iterdir())) > 1
    JobScript.clear_cache_folder()
    assert [path.name for path in (wd / "cache").iterdir()] == ["other"]


def test_what_is_done_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "clusterjob")
    JobScript("true", "j").submit(block=True)
    said = [record.message for record in caplog.records if record.name.startswith("clusterjob")]
    assert said[0] == "Submitting job j locally"
    assert said[1].startswith("Job ID: ")
    assert said[-1].endswith("is COMPLETED")


# --- tools --------------------------------------------------------------------------------------------------------------------


def test_tools(wd: Path) -> None:
    utils.mkdir("a/b")
    utils.mkdir("a/b")
    utils.write_file("a/f", "#!/bin/sh\necho $1; echo err >&2; exit 3\n")
    utils.set_executable("a/f")
    assert utils.read_file("a/f").startswith("#!/bin/sh")
    with pytest.raises(OSError, match="f"):
        utils.mkdir("a/f")
    assert utils.run_cmd(["./f", "x y"], None, "a", ignore_exit_code=True) == "x y\nerr\n"
    assert utils.run_cmd("echo a | tr a b", None) == "b\n"
    with pytest.raises(subprocess.CalledProcessError):
        utils.run_cmd(["false"], None)
    assert utils.split_seq([1, 2, 3, 4, 5, 6, 7], 3) == [[1, 2], [3, 4, 5], [6, 7]]
    assert utils.split_seq([1, 2], 4) == [[], [1], [2], []]
    assert utils.split_seq("abcdef", 4) == ["ab", "c", "d", "ef"]
    assert utils.time_to_seconds("1-1:10:30") == 90630


def test_commands_for_other_hosts_are_quoted(wd: Path) -> None:
    for name, text in {"ssh": 'echo "$@"', "scp": 'echo "$@" >copied'}.items():
        utils.write_file(name, f"#!/bin/sh\n{text}\n")
        utils.set_executable(name)
    assert utils.run_cmd(["ls", "a b"], "host", "~/x y", ssh="./ssh") == "host cd \"$HOME\"'/x y' && ls 'a b'\n"
    utils.upload_file("here", "host", "there", scp="./scp")
    assert (wd / "copied").read_text() == "here host:there\n"


def test_a_backend_is_tried_on_the_command_line(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Submit, cancel, submit again, wait; the files that clusterjob leaves are there."""
    (wd / "c.ini").write_text("[Attributes]\nbackend = shell\n")
    (wd / "body.sh").write_text("echo $CLUSTERJOB_NAME; sleep 1\n")
    done = CliRunner().invoke(cli.test_backend, ["--body", "body.sh", "--jobname", "tried", "c.ini"])
    assert done.exit_code == 0, done.output
    assert [word for word in ("CANCELLED", "COMPLETED") if word not in done.output] == []
    assert (wd / "c.out").read_text() == "tried\n"
    assert (wd / "c.rendered.sh").read_text().startswith("#!/bin/bash\n# jobname=tried\n")
    assert any(line["message"].startswith("Job ID") for line in json.loads((wd / "c.json").read_text()))
    assert "$CLUSTERJOB_ID" in CliRunner().invoke(cli.test_backend, ["--show-default-body"]).output

    (wd / "own.py").write_text("class Bad:\n    pass\n")
    monkeypatch.syspath_prepend(str(wd))
    done = CliRunner().invoke(cli.test_backend, ["--backend", "own.Bad", "c.ini"])
    sys.modules.pop("own")
    assert (done.exit_code, "must be an instance of ClusterjobBackend" in done.output) == (1, True)
