"""`pilotfish job run`, `submit`, `queue`, `wait`, `profile`, `keywords` and `clean`, where there is no batch system."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from patience import wait_until
from sshd import Sshd

from pilotfish import fyrd
from pilotfish.launcher.cli import job_queue
from pilotfish.launcher.cli.job import job
from pilotfish.launcher.description.machine import parse_machine
from pilotfish.launcher.job import store
from pilotfish.launcher.machines.dialect import QueueRow
from pilotfish.launcher.submission.queue_view import QueueError
from pilotfish.launcher.submission.single import SingleJob
from pilotfish.pilot.model.errors import PilotfishError

UNTIL_GO = "until [ -e go ]; do sleep 0.05; done"
MACHINE = {"batch_type": "Shell", "context_type": "LazyLocal", "local_root": "."}
SLURM_FILE = '{"batch_type": "Slurm", "context_type": "LazyLocal", "local_root": "."}'


@pytest.fixture(autouse=True)
def here(wd: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(wd)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(wd / "config"))
    monkeypatch.setenv("HOME", str(wd))
    monkeypatch.setattr("pilotfish.launcher.submission.command_jobs.get_cluster_environment", lambda: "local")
    yield
    (wd / "go").touch()
    for record in store.all_records():
        if not record.over:
            SingleJob(record).cancel()


def invoke(*words: str) -> Result:
    return CliRunner().invoke(job, list(words))


def call(*words: str, code: int = 0) -> str:
    done = invoke(*words)
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


def refusal(*words: str) -> str:
    done = invoke(*words)
    if isinstance(done.exception, PilotfishError):
        return str(done.exception)
    assert done.exit_code == 2
    return done.stderr


def told(*words: str, code: int = 0) -> Any:
    found = json.loads(call(*words, "--json", code=code))
    assert found["version"] == 1
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_command_runs_once_for_each_file(wd: Path) -> None:
    for name in ("a", "b c"):
        (wd / f"{name}.txt").write_text(name)
    jobs = told("run", "cat {} >{/.}.out", "a.txt", "b c.txt", "--wait")["jobs"]
    assert [(each["name"], each["state"], each["maker"]) for each in jobs] == [
        ("cat.a.txt", "finished", "job run"),
        ("cat.b c.txt", "finished", "job run"),
    ]
    assert (wd / "a.out").read_text() == "a"
    assert (wd / "b c.out").read_text() == "b c"
    assert [each["name"] for each in told("list", "--offline")["jobs"]] == ["cat.b c.txt", "cat.a.txt"]


def test_the_exit_code_is_that_of_the_work(wd: Path) -> None:
    assert "exit code 4" in call("run", "--wait", "echo no >&2; exit 4", code=1)
    assert "no" in call("logs", "last")
    call("run", "--wait", "--clean", "--name", "gone", "echo x")
    assert not [name for name in names(wd) if name.startswith("gone")]


def test_a_script_is_handed_over_as_it_is_now(wd: Path) -> None:
    """What is done to the file afterwards does not count."""
    script = wd / "step.sh"
    script.write_text(f"#!/bin/bash\n#SBATCH -o elsewhere\n{UNTIL_GO}\necho first; exit 3\n")
    first = call("submit", "step.sh", "--ids").strip()
    script.write_text("echo second\n")
    (wd / "go").touch()
    assert "first" in call("wait", first, code=1) + call("logs", first)
    call("submit", "step.sh", "-w")
    assert call("logs", "last", "--stdout") == "second\n"


def test_no_more_run_at_once_than_there_are_cores(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a batch system nobody else sees to it."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("pilotfish.launcher.cli.job_run._COUNT_EVERY_S", 0.02)
    text = "mkdir busy && sleep 0.2 && rmdir busy"  # fails when another is there
    states = [each["state"] for each in told("run", "-c", "2", f"{text}; #" + "{}", "1", "2", "3", "-w")["jobs"]]
    assert states == ["finished"] * 3


def test_options_come_from_words_then_args_then_profile(wd: Path) -> None:
    (wd / "slurm.json").write_text(SLURM_FILE)
    call("profile", "create", "deep", "cores=8", "mem=20G", "time=2-00:00:00", "partition=week")
    text = call(
        "run", "-M", "slurm.json", "-p", "deep", "-a", "time=1:00:00,qos=high,cores=3", "-c", "4", "-d", "sim x"
    )
    lines = text.splitlines()
    directives = [line for line in lines if line.startswith("#SBATCH")]
    assert lines[0] == "==> sim: sim x <=="
    assert [line for line in directives if "job-name" not in line] == [
        "#SBATCH --nodes 1",
        "#SBATCH --ntasks-per-node 1",
        "#SBATCH --cpus-per-task 4",
        "#SBATCH --partition week",
        "#SBATCH --time 01:00:00",
        "#SBATCH --qos high",
        "#SBATCH --mem 20480M",
    ]
    assert names(wd) == ["config", "slurm.json"]  # nothing is left behind
    assert told("list", "--offline")["jobs"] == []


def test_directives_of_a_script_count_and_options_beside_it_win(wd: Path) -> None:
    (wd / "slurm.json").write_text(SLURM_FILE)
    (wd / "x.sh").write_text("#!/bin/bash\n#SBATCH --mem 5G\n# a remark\n#SBATCH -o out.txt\necho\n#SBATCH --late\n")
    script = call("submit", "-M", "slurm.json", "-t", "5:00", "-d", "x.sh")
    assert [line for line in script.splitlines() if line.startswith("#SBATCH")] == [
        "#SBATCH --mem 5G",
        "#SBATCH -o out.txt",
        "#SBATCH --time 00:05:00",
    ]


def test_what_a_machine_has_nothing_for_is_left_out_of_a_profile_and_refused_otherwise() -> None:
    done = invoke("run", "-p", "small", "true", "-w")
    assert done.exit_code == 0
    assert "profile small: Shell has nothing for mem; left out" in done.stderr
    assert "queues of the kind local have nothing for it" in refusal("run", "-q", "week", "true")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["run", "gzip", "a"], "command 'gzip': has no place for the files"),
        (["run", "true", "-a", "coers=1"], "Unrecognized argument coers; did you mean 'cores'?"),
        (["run", "true", "-a", "cores"], "--args cores: must be NAME=VALUE"),
        (["run", "true", "-c", "four"], "cores: 'four' is not a whole number"),
        (["run", "true", "-t", "soon"], "time: 'soon' is not a time; write text as HH:MM:SS"),
        (["run", "true", "-m", "lots"], "mem: 'lots' is not an amount of memory"),
        (["run", "true", "-p", "lnog"], "no profile is called 'lnog'; did you mean 'long'?"),
        (["run", "true", "-M", "nowhere"], "machine: there is no machine 'nowhere'"),
        (["run", "true", "--clean"], "--clean: is for --wait"),
        (["run", "true", "--after", "7"], "--after: without a batch system a job starts at once"),
        (["run", "true", "-a", "imports=os"], "imports: is an option of functions"),
        (["submit", "nowhere.sh"], "File 'nowhere.sh' does not exist"),
        (["wait"], "Name jobs, or give --all or --user"),
        (["wait", "7"], "no batch jobs have an id or a hash like '7'"),
        (["profile", "edit", "small"], "Give OPTION=VALUE, or --unset OPTION"),
        (["profile", "edit", "small", "cores"], "cores: must be OPTION=VALUE"),
        (["profile", "edit", "small", "--unset", "qos"], "small: the profile has no 'qos' of its own"),
        (["profile", "create", "small", "cores=1"], "profile small: is there already"),
        (["profile", "rename", "DEFAULT", "x"], "cannot rename the profile 'DEFAULT'; DEFAULT always stays"),
        (["profile", "rename", "small", "large"], "there is a profile 'large' already"),
        (["profile", "remove", "smal"], "cannot remove the profile 'smal'; did you mean 'small'?"),
        (["profile", "lsit"], "There is no command 'lsit'. did you mean 'list'?"),
        (["keywords", "-s", "slrum"], "--system: there is no batch system 'slrum'; did you mean 'slurm'?"),
    ],
)
def test_wrong_words_are_refused(words: list[str], text: str) -> None:
    assert text in refusal(*words)


def test_profiles_are_made_changed_and_removed() -> None:
    assert told("profile", "create", "deep", "cores=8", "mem:2G")["profiles"]["deep"] == {
        "nodes": 1,
        "cores": 8,
        "mem": 2048,
    }
    assert told("profile", "edit", "deep", "modules=a,b", "--unset", "memory")["profiles"]["deep"] == {
        "nodes": 1,
        "cores": 8,
        "modules": ["a", "b"],
    }
    call("profile", "rename", "deep", "week")
    assert fyrd.get_profile("week").cores == 8  # Python has the same
    call("profile", "del", "week")
    assert "week" not in told("profile", "list")["profiles"]
    assert "cores" in call("profile", "show", "small")


def test_keywords_are_those_of_the_batch_system() -> None:
    slurm = call("keywords", "-s", "slurm", "-l").split()
    assert {"cores", "features", "begin"} <= set(slurm)
    assert "begin" not in call("keywords", "-s", "pbs", "-l").split()
    rows = {row["name"]: row for row in told("keywords")["options"]}
    assert rows["mem"]["synonyms"] == ["memory"]


def test_jobs_of_this_host_are_its_queue(wd: Path) -> None:
    call("run", "exit 3", "--name", "bad", "-w", code=1)
    call("run", UNTIL_GO, "--name", "long")
    found = told("queue")
    assert [(row["name"], row["state"], row["exit_code"]) for row in found["jobs"]] == [
        ("long", "running", None),
        ("bad", "failed", 3),
    ]
    assert [(row["state"], row["jobs"]) for row in found["counts"]] == [("failed", 1), ("running", 1)]
    assert call("queue", "-r", "-l") == f"{found['jobs'][0]['id']}\n"
    assert {"(3)", "bad"} <= set(call("queue", "--bad").splitlines()[1].split())
    assert call("queue", "-u", "nobody", "-c").split() == ["USER", "PARTITION", "STATE", "JOBS"]
    (wd / "go").touch()
    call("wait", "--all", "--check-interval", "0.1")


def test_jobs_of_others_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their ids, or all of a user; one that leaves the queue is over, one that never was in it is an error."""
    looks = [
        {"7": "pending", "8": "running"},
        {"7": "running", "8": "completed"},
        {"7": "failed"},
    ]
    left = iter(looks)

    def listed(*ignored: Any) -> list[QueueRow]:
        states = next(left, {})
        return [QueueRow(name, "x", "bob", "q", state, "", 1) for name, state in states.items()]

    monkeypatch.setattr(job_queue, "rows", listed)
    machine = parse_machine(json.loads(SLURM_FILE))
    assert job_queue.wait_in_queue(machine, [], ["bob"], None, lambda pause: None) == (True, False)
    left = iter(looks)
    assert job_queue.wait_in_queue(machine, ["8.server"], [], None, lambda pause: None) == (True, True)
    left = iter(looks)
    assert job_queue.wait_in_queue(machine, ["7"], [], 0.0, lambda pause: None) == (False, False)
    left = iter(looks)
    with pytest.raises(QueueError, match="no job 9 in the queue"):
        job_queue.wait_in_queue(machine, ["9"], [], None, lambda pause: None)


def test_where_jobs_have_no_folder_that_is_said(wd: Path) -> None:
    machine = {"batch_type": "DistributedShell", "context_type": "HDFS", "local_root": ".", "remote_root": "hdfs://n/x"}
    (wd / "m.json").write_text(json.dumps(machine))
    assert "machine: DistributedShell takes jobs together with their files" in refusal("run", "-M", "m.json", "true")
    assert told("list")["jobs"] == []


def test_another_machine_is_used_by_its_name(wd: Path, sshd: Sshd) -> None:
    """Its files are named as they are there; looking, waiting, logs and cleaning go there too."""
    machine = {**MACHINE, "context_type": "SSH", "remote_root": str(wd / "there"), "remote_profile": sshd.profile}
    folder = wd / "config" / "pilotfish" / "machines"
    folder.mkdir(parents=True)
    (folder / "far.json").write_text(json.dumps(machine))
    (wd / "there").mkdir()
    (wd / "there" / "x.txt").write_text("there")
    (wd / "step.sh").write_text("pwd; exit 3\n")
    (done,) = told("run", "-M", "far", "--name", "read", "cat {}", "x.txt", "-w")["jobs"]
    assert (done["machine"], done["state"], done["folder"]) == ("Shell@127.0.0.1", "finished", str(wd / "there"))
    assert call("logs", "last", "--stdout") == "there"
    call("submit", "-M", "far", "step.sh", "-w", code=1)
    assert call("logs", "last", "--stdout") == f"{wd}/there\n"
    assert [row["name"] for row in told("queue", "-M", "far")["jobs"]] == ["step.sh", "read"]
    assert told("queue")["jobs"] == []
    assert len(told("clean", "-M", "far", "--outputs", "-y")["files"]) == 4
    assert names(wd / "there") == ["x.txt"]


def test_only_files_of_jobs_that_are_over_are_cleaned(wd: Path) -> None:
    """Scripts first, output when asked for; nothing that merely has such a name."""
    done = fyrd.submit("echo out", name="one", machine=MACHINE)
    done.wait()
    living = fyrd.submit(UNTIL_GO, name="two", machine=MACHINE)
    own = [Path(living.outfile).with_suffix(end) for end in (".err", ".out", ".script")]
    wait_until(lambda: all(path.exists() for path in own), "it runs")
    (wd / "three.0123456789ab.cluster.script").touch()
    assert [Path(name).name for name in told("clean", "-d")["files"]] == [f"one.{done.uuid}.cluster.script"]
    assert "1 files would be removed" in refusal("clean")
    call("clean", "-y")
    assert not Path(done.files[0]).exists()
    call("clean", "--outputs", "-y")
    kept = ["three.0123456789ab.cluster.script", *(path.name for path in own)]
    assert [name for name in names(wd) if ".cluster" in name] == kept
