"""Job scripts in clusterjob's terms."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S
from sshd import Sshd

from pilotfish import AsyncResult, JobScript
from pilotfish.launcher.compat.clusterjob.headers import ResourcesNotSupportedError, backends, headers, time_to_seconds
from pilotfish.launcher.compat.clusterjob.status import CANCELLED, COMPLETED, FAILED, PENDING, RUNNING
from pilotfish.launcher.compat.clusterjob.surroundings import needed
from pilotfish.launcher.description.schema import DescriptionError
from pilotfish.launcher.job import store
from pilotfish.launcher.job.sighting import Sighting
from pilotfish.launcher.job.single import JobRecord, Phase
from pilotfish.launcher.job.states import JobState, Status
from pilotfish.launcher.job.states import Listing as Told
from pilotfish.launcher.submission import looking
from pilotfish.launcher.submission.single import SingleJob
from pilotfish.pilot.model.errors import JournalError

ALL = {
    "jobname": "j",
    "account": "A1",
    "flag": True,
    "mem": 2000,
    "nodes": 4,
    "ppn": 2,
    "queue": "q",
    "stderr": "e",
    "stdout": "o",
    "threads": 16,
    "time": "01:30:00",
    "-X": "y",
    "k": 1,
    "nothing": False,
}
"""The example of the specification, with a few more kinds of keys."""


@pytest.fixture(autouse=True)
def pristine(wd: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(wd)
    monkeypatch.setattr(JobScript, "backend", "shell")
    monkeypatch.setattr(JobScript, "cache_folder", None)
    yield
    JobScript.read_defaults()


# --- text -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        (
            "slurm",
            "--job-name=j|--account=A1|--flag|--mem=2000|--nodes=4|--tasks-per-node=2|--partition=q|--error=e|--output=o"
            "|--cpus-per-task=16|--time=01:30:00|-X y|-k 1",
        ),
        (
            "pbs",
            "-l nodes=4:ppn=32|-N j|-l account=A1|-flag|-l mem=2000m|-q q|-e e|-o o|-l walltime=01:30:00|-X y|-l k=1",
        ),
        (
            "pbspro",
            "-l select=4:ncpus=32:mpiprocs=2:ompthreads=16|-N j|-l account=A1|-flag|-l mem=2000m|-q q|-e e|-o o"
            "|-l walltime=01:30:00|-X y|-l k=1",
        ),
        ("lsf", "-n 128 -R 'span[ptile=32]'|-J j|-account A1|-flag|-M 2000|-q q|-e e|-o o|-W 90|-X y|-k 1"),
    ],
)
def test_directives(backend: str, expected: str) -> None:
    table = backends()[backend].directives
    assert table is not None
    assert headers(backends()[backend], ALL) == [f"{table.prefix} {line}" for line in expected.split("|")]


@pytest.mark.parametrize("key", ["dependency", "d"])
def test_a_dependency_takes_ids_with_their_cluster(key: str) -> None:
    """Where several clusters answer, job_id is `7;east`; sbatch refuses that in a dependency."""
    resources = {key: "afterok:7;east:8,afterany:9;my-east.1"}
    option = "--dependency=" if key == "dependency" else "-d "
    assert headers(backends()["slurm"], resources) == [f"#SBATCH {option}afterok:7:8,afterany:9"]
    assert [each.id for each in needed(resources)] == ["7;east", "8"]


def test_directives_of_grid_engine() -> None:
    given = {"jobname": "j", "-pe": "mpi 4", "mem": 10, "time": "5", "cwd": True, "l": "x"}
    assert headers(backends()["sge"], given) == [
        "#$ -N j",
        "#$ -pe mpi 4",
        "#$ -l h_vmem=10m",
        "#$ -l h_rt=00:05:00",
        "#$ -l l=x",
        "#$ -S /bin/bash",
        "#$ -cwd",
    ]
    with pytest.raises(ResourcesNotSupportedError, match="'-pe'"):
        headers(backends()["sge"], {"nodes": 2})


def test_limits_are_rounded_up_and_directives_keep_their_line() -> None:
    assert headers(backends()["lsf"], {"time": "0:30"}) == ["#BSUB -W 1"]
    with pytest.raises(DescriptionError, match="line break"):
        headers(backends()["slurm"], {"queue": "q\n#SBATCH --exclusive"})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *[("10", 600), (10, 600), ("1:30", 90), ("90:90", 5490), ("1:00:01", 3601)],
        *[("1-2", 93600), ("1-02:03", 93780), ("1-02:03:04", 93784), ("1:2:3:4", 93784)],
    ],
)
def test_times(text: str, seconds: int) -> None:
    assert time_to_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1-2:3:4:5", "1h"])
def test_wrong_times(text: str) -> None:
    with pytest.raises(DescriptionError, match="has invalid pattern"):
        time_to_seconds(text)


def test_a_script_as_text() -> None:
    script = JobScript(
        "echo {jobname} {mine} ${CLUSTERJOB_ID} $CLUSTERJOB_NAMEX ${{x}} {{}}", "j", backend="slurm", ppn=2
    )
    script.mine = "here"
    assert str(script).splitlines() == [
        "#!/bin/bash",
        "#SBATCH --job-name=j",
        "#SBATCH --tasks-per-node=2",
        "echo j here ${CLUSTERJOB_ID} $CLUSTERJOB_NAMEX ${x} {}",
    ]


def test_a_body_with_its_own_first_line_keeps_it() -> None:
    assert str(JobScript("#!/bin/sh\ntrue", "j", backend="lsf")).splitlines() == ["#!/bin/sh", "#BSUB -J j", "true"]


def test_unknown_placeholders_backends_and_attributes() -> None:
    with pytest.raises(DescriptionError, match=r"placeholder \{jobnam\} is not known; did you mean 'jobname'"):
        str(JobScript("{jobnam}", "j"))
    with pytest.raises(DescriptionError, match="double the braces"):
        str(JobScript("awk { print }", "j"))
    with pytest.raises(DescriptionError, match="Unknown backend slurmm; did you mean 'slurm'"):
        str(JobScript("true", "j", backend="slurmm"))
    with pytest.raises(AttributeError, match="'cache_folder' can only be set as a class attribute"):
        JobScript("true", "j").cache_folder = "x"  # type: ignore[misc]


def test_settings_from_files(wd: Path) -> None:
    (wd / "all.ini").write_text("[Attributes]\nworkdir = a/\nmine = 100%%\n[Resources]\nqueue = q\nnodes = 2\n")
    (wd / "one.ini").write_text("[Resources]\nmem = 10\n")
    JobScript.read_defaults("all.ini")
    script = JobScript("{mine}", "j")
    script.read_settings("one.ini")
    assert script.workdir == "a"
    assert script.resources == {"queue": "q", "nodes": 2, "jobname": "j", "mem": 10}
    assert script.render_script("{mine}") == "#!/bin/bash\n100%"
    JobScript.read_defaults()
    assert (JobScript.workdir, JobScript.resources, hasattr(JobScript, "mine")) == (".", {}, False)
    (wd / "bad.ini").write_text("[Other]\nx = 1\n")
    with pytest.raises(DescriptionError, match=r"bad.ini: Invalid section 'Other'") as caught:
        JobScript.read_defaults("bad.ini")
    assert "Other" in repr(caught.value), "as an error of configparser, too"


def test_without_a_file_the_class_is_as_it_was_made() -> None:
    """Whatever was set on it, also by hand; and nothing that was left as it is changes."""
    before = {name: getattr(JobScript, name) for name in ("shell", "workdir", "resources", "submit")}
    JobScript.shell, JobScript.workdir = "/bin/zsh", "/elsewhere/"
    JobScript.foo = 1
    JobScript.resources["queue"] = "q"
    assert JobScript.workdir == "/elsewhere"
    JobScript.read_defaults()
    assert {name: getattr(JobScript, name) for name in before} == {**before, "resources": {}}
    assert not hasattr(JobScript, "foo")


def test_a_class_of_ones_own_goes_back_to_what_it_says() -> None:
    class Mine(JobScript):
        workdir = "mine"
        resources = {"queue": "q"}

    Mine.workdir, Mine.resources = "other", {}
    Mine.read_defaults()
    assert (Mine.workdir, Mine.resources, JobScript.workdir) == ("mine", {"queue": "q"}, ".")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("nodes", "two", r"resources.nodes: 'two' is not a whole number"),
        ("ppn", 0, "resources.ppn: 0 is not"),
        ("threads", True, "resources.threads: True is not"),
        ("mem", "lots", "resources.mem: 'lots' is not an amount of memory"),
        ("max_sleep_interval", "abc", "max_sleep_interval: 'abc' is not a number"),
        ("max_sleep_interval", 0, "is not a number of seconds above 0"),
        ("backend", "slrum", "Unknown backend slrum; did you mean 'slurm'"),
    ],
)
def test_wrong_values_are_told_when_they_are_set(wd: Path, name: str, value: Any, text: str) -> None:
    """By a keyword, on a script, on the class, in a file, in the resources at the latest when they are used."""
    with pytest.raises(ValueError, match=text):
        JobScript("true", "j", **{name: value})
    section = "Resources" if name in ("nodes", "ppn", "threads", "mem") else "Attributes"
    (wd / "all.ini").write_text(f"[{section}]\n{name} = {value}\n")
    for read in (JobScript.read_defaults, JobScript("true", "j").read_settings):
        with pytest.raises(ValueError, match=text.partition(":")[0].partition(" is not")[0]):
            read("all.ini")
    if section == "Attributes":
        for owner in (JobScript, JobScript("true", "j")):
            with pytest.raises(ValueError, match=text):
                setattr(owner, name, value)
        return
    script = JobScript("true", "j")
    script.resources[name] = value
    with pytest.raises(ValueError, match=text):
        script.submit()


@pytest.mark.parametrize(("backend", "line"), [("pbs", "#PBS -l mem=4096m"), ("slurm", "#SBATCH --mem=4096")])
def test_memory_may_have_a_unit(backend: str, line: str) -> None:
    assert line in str(JobScript("true", "j", backend=backend, mem="4G")).splitlines()


def test_a_script_that_somebody_submits_by_hand_knows_its_variables(wd: Path) -> None:
    """With those of the batch system; also under `set -u`. A script for another program stays as it is."""
    body = "set -u; echo $CLUSTERJOB_ID $CLUSTERJOB_NAME $CLUSTERJOB_WORKDIR ${{CLUSTERJOB_NODELIST}}"
    JobScript(body, "hand", backend="slurm", nodes=2).write("hand.slr")
    lines = (wd / "hand.slr").read_text().splitlines()
    assert lines[:3] == ["#!/bin/bash", "#SBATCH --job-name=hand", "#SBATCH --nodes=2"]
    environ = {
        "PATH": os.environ["PATH"],
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_SUBMIT_DIR": "/w",
    }
    done = subprocess.run(["sh", "hand.slr"], env=environ, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("7 hand /w n[1-2]\n", "")
    script = JobScript("#!/usr/bin/python3\nprint(1)", "py", backend="slurm")
    script.write("py.slr")
    assert (wd / "py.slr").read_text() == str(script)


def test_programs_for_connections_are_taken_and_are_no_resources() -> None:
    script = JobScript("true", "j", backend="slurm", ssh="/usr/bin/ssh", scp="scp -q")
    assert (script.ssh, str(script)) == ("/usr/bin/ssh", "#!/bin/bash\n#SBATCH --job-name=j\ntrue")


def test_a_cache_folder_that_cannot_be_made_is_told_before_anything_runs(
    wd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JobScript, "cache_folder", "/proc/nowhere")
    with pytest.raises(OSError, match="/proc/nowhere"):
        JobScript("true", "j", prologue="touch ran").submit()
    assert not (wd / "ran").exists()


# --- running ------------------------------------------------------------------------------------------------------------------


def test_from_the_script_to_its_end(wd: Path) -> None:
    script = JobScript(
        "echo $CLUSTERJOB_NAME in $CLUSTERJOB_WORKDIR\n./tool\nexit 0", "hello", {"tool": "echo {jobname}"}
    )
    script.workdir = "here"
    script.prologue = "echo before > prologue"
    script.epilogue = "echo after >> epilogue"
    result = script.submit()
    assert result.get() == COMPLETED
    assert result.successful()
    assert (wd / "here/hello.out").read_text() == f"hello in {wd}/here\nhello\n"
    assert sorted(path.name for path in (wd / "here").iterdir()) == ["hello.err", "hello.out", "hello.sh", "tool"]
    assert result.status == COMPLETED
    assert ((wd / "prologue").read_text(), (wd / "epilogue").read_text()) == ("before\n", "after\n")


def test_a_python_script_that_fails() -> None:
    result = JobScript(f"#!{sys.executable}\nimport sys\nprint({{num}})\nsys.exit(7)", "py", num=3).submit()
    assert result.get() == FAILED
    assert not result.successful()
    assert (result.exit_code, result.message) == (7, "program")
    assert Path("py.out").read_text() == "3\n"


def test_coming_back_from_another_program(wd: Path) -> None:
    result = JobScript("until [ -e go ]; do sleep 0.05; done", "j", epilogue="echo x >> ran").submit()
    assert result.status in (PENDING, RUNNING)
    with pytest.raises(AssertionError):
        result.successful()
    result.dump("kept.json")
    assert oct((wd / "kept.json").stat().st_mode)[-3:] == "600"
    code = "from pilotfish import AsyncResult; open('go', 'w'); print(AsyncResult.load('kept.json').get())"
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE_S
        )
        assert done.stdout == "0\n"
    assert (wd / "ran").read_text() == "x\n", "once"
    assert AsyncResult.load("kept.json").status == COMPLETED


def test_cancel() -> None:
    result = JobScript("sleep 1000", "j", epilogue="touch ran").submit()
    result.cancel()
    assert result.status == CANCELLED
    assert Path("ran").exists()
    result.cancel()
    assert not result.successful()


def test_a_time_limit_and_a_timeout() -> None:
    waiting = JobScript("sleep 1000", "j").submit()
    waiting.wait(0.2)
    assert not waiting.ready()
    waiting.cancel()
    ended = JobScript("sleep 1000", "k", time="0:01").submit(block=True)
    assert (ended.status, ended.message, ended.exit_code) == (FAILED, "time limit", 143)


def test_a_cancelled_job_with_a_time_limit_has_not_reached_it(wait_until: Any) -> None:
    cancelled = JobScript("touch begun; sleep 1000", "c", time="10:00").submit()
    wait_until(lambda: Path("begun").exists(), "the job to begin")
    os.killpg(int(str(cancelled.job_id).partition(":")[0]), signal.SIGTERM)
    assert (cancelled.get(), cancelled.message) == (CANCELLED, "cancelled")


def test_a_failed_prologue_submits_nothing(wd: Path) -> None:
    result = JobScript("touch ran", "j", prologue="exit 3").submit()
    assert (result.status, result.message, result.job_id) == (FAILED, "the prologue ended with 3", None)
    assert not (wd / "ran").exists()


def test_results_are_kept_by_the_text_of_the_script(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobScript, "cache_folder", str(wd / "cache"))

    def runs(text: str, **options: Any) -> int:
        JobScript(f"echo x >> count; {text}", "j").submit(block=True, **options)
        return len((wd / "count").read_text().splitlines())

    assert [runs("true"), runs("true"), runs("true", force=True)] == [1, 1, 2]
    assert [runs("exit 1"), runs("exit 1"), runs("exit 1", retry=False)] == [3, 4, 4]
    assert [runs("true", cache_id="mine"), runs("false", cache_id="mine")] == [5, 5]
    assert (wd / "cache/clusterjob.mine.cache").exists()


def test_a_job_that_was_handed_over_before_we_died_is_found(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobScript, "cache_folder", str(wd / "cache"))
    script = JobScript("echo x >> count", "j")
    known = forget_id(script.submit(cache_id="c"))
    again = script.submit(cache_id="c")
    assert again.job_id == known
    assert again.get() == COMPLETED
    assert (wd / "count").read_text() == "x\n"


def forget_id(result: AsyncResult) -> str:
    """As if the program had died before it got to know the id; that."""
    assert result.job is not None
    known = result.job.id
    result.job.step(lambda record: dataclasses.replace(record, phase=Phase.INTENDED, id=""))
    return known


class Listing:
    """A batch system that tells these words, one after the other."""

    settle_s = 0.0

    def __init__(self, *states: JobState) -> None:
        self.states, self.asked = list(states), 0

    def query(self, context: Any, ids: Any) -> Told:
        self.asked += 1
        state = self.states.pop(0) if self.states else None
        return Told() if state is None else Told({name: Status(state) for name in ids})


def test_pauses_between_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one question for many."""
    listing = Listing(*[JobState.waiting] * 5, *[JobState.running] * 2, *[JobState.finished] * 9)
    monkeypatch.setattr(looking, "build_machine", lambda name: listing)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    slept: list[float] = []
    machine = JobScript("true", "j")._described()
    placed = [JobRecord(f"{n:040}", machine, ".").intended(0.0).placed(str(n)) for n in range(200)]
    jobs = [SingleJob(store.create(record), clock=lambda: 0.0) for record in placed]
    results = [AsyncResult(job=job, clock=lambda: 0.0, sleep=slept.append) for job in jobs]
    for result in results:
        result.max_sleep_interval = 5
    AsyncResult.wait_all(results)
    assert slept == [0.5, 1, 2, 4, 4, 0.5, 1, 2, 4]
    assert listing.asked == 10
    assert all(result.successful() for result in results)


@pytest.mark.parametrize(
    ("listed", "record", "expected"),
    [
        (Status(JobState.running), None, JobState.running),
        (None, Status(JobState.finished), JobState.finished),
        (None, None, JobState.completing),
        (Status(JobState.finished), None, JobState.completing),
        (Status(JobState.terminated, reason="time limit"), None, JobState.terminated),
    ],
)
def test_where_a_job_is(listed: Status | None, record: Status | None, expected: JobState) -> None:
    assert Sighting().judge(listed, record, 0.0, 0.0).state is expected


def test_a_job_that_nobody_knows_has_vanished_after_a_while() -> None:
    seen = Sighting()
    assert [seen.judge(None, None, 0.0, 60.0).state for _ in range(5)] == [JobState.completing] * 5
    assert seen.judge(None, None, 100.0, 60.0).reason == "vanished"
    assert seen.judge(Status(JobState.finished), None, 100.0, 60.0).state is JobState.finished


def test_a_job_that_an_answer_only_leaves_out_is_waited_for_longer() -> None:
    """The batch system did not say that it does not know it."""
    seen = Sighting()
    states = [seen.judge(None, None, 60.0 * n, 60.0, doubted=True).state for n in range(9)]
    assert states == [JobState.completing] * 9
    assert seen.judge(None, None, 601.0, 60.0, doubted=True).reason == "vanished"


def test_why_a_job_was_killed_the_batch_system_knows_best() -> None:
    told, record = Status(JobState.terminated, reason="time limit"), Status(JobState.terminated, "", "cancelled", 143)
    judged = Sighting().judge(told, record, 0.0, 0.0)
    assert (judged.reason, judged.exit_code) == ("time limit", 143)
    assert Sighting().judge(told, Status(JobState.finished, exit_code=0), 0.0, 0.0).state is JobState.finished


def test_what_is_no_kept_result(wd: Path) -> None:
    (wd / "old.cache").write_bytes(b"\x80\x03pickle")
    with pytest.raises(JournalError, match="clusterjob's own cache files cannot be read"):
        AsyncResult.load("old.cache")
    JobScript("true", "j", backend="shell").submit(block=True).dump("kept")
    good = json.loads((wd / "kept").read_text())
    without_job = {name: value for name, value in good.items() if name != "job"}
    bad: list[dict[str, Any]] = [
        {"machine": {}},
        {"hash": "0; touch pwned"},
        {"hash": "../x"},
        {"id": "1; touch pwned"},
        {"folder": None},
    ]
    jobs: list[dict[str, Any]] = [{}, *({**good["job"], **dict(each)} for each in bad)]
    for found in ({"version": 2}, without_job, *({**good, "job": each} for each in jobs)):
        (wd / "kept").write_text(json.dumps(found))
        with pytest.raises(JournalError, match="kept: is no kept result: "):
            AsyncResult.load("kept")


def test_on_another_machine(wd: Path, sshd: Sshd) -> None:
    script = JobScript("pwd; hostname > host; exit 4", "far", workdir="w")
    script.machine = {
        "batch_type": "Shell",
        "context_type": "SSH",
        "local_root": ".",
        "remote_root": str(wd / "there"),
        "remote_profile": sshd.profile,
    }
    result = script.submit(block=True)
    assert (result.status, result.exit_code) == (FAILED, 4)
    assert (wd / "there/w/far.out").read_text() == f"{wd}/there/w\n"
    assert os.access(wd / "there/w/far.sh", os.X_OK)
