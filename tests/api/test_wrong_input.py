"""What somebody may get wrong, as a table: each is one line with the place, the value and what to do, and exit code 2.

Exit code 3 is for what is not there. Nothing of this starts anything.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilotfish import Jobs, LocalManager, Manager
from pilotfish.commands import run_command
from pilotfish.pilot.model.errors import PilotfishError


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str]]]:
    """Runs a command line here: (exit code, what it says on stderr)."""
    answers = signal.getsignal(signal.SIGINT)

    def said(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["pilotfish", *words])
        code = run_command(lambda: None)
        return code, capfd.readouterr().err

    yield said
    signal.signal(signal.SIGINT, answers)


JOB = {"name": "a", "execution": {"exec": "true"}}


def job(**members: Any) -> list[dict[str, Any]]:
    return [{**JOB, **members}]


def execution(**members: Any) -> list[dict[str, Any]]:
    return job(execution={"exec": "true", **members})


def resources(**members: Any) -> list[dict[str, Any]]:
    return job(resources=members)


DESCRIPTIONS: list[tuple[Any, str]] = [
    ([{"name": "a"}], r'jobs[0].execution: Missing execution element in job description; write {"exec": PROGRAM'),
    ([{"execution": {"exec": "true"}}], 'jobs[0].name: Missing name in job description; give each job a "name"'),
    (job(name="a b"), "jobs[0].name: Job identifier '(a b)' contains invalid characters"),
    (job(name="a:b"), "jobs[0].name: Invalid job name a:b; leave the colon out"),
    ([JOB, JOB], "jobs[1].name: Job a already exist; give it another name"),
    (job(execution={"args": ["x"]}), 'jobs[0].execution: Job execution (exec or script) not defined; give "exec"'),
    (job(execution="true"), "jobs[0].execution: Job execution not defined or wrong type; write {"),
    (execution(stdot="x"), 'jobs[0].execution.stdot: unknown key; did you mean "stdout"?'),
    (execution(args="hello"), 'jobs[0].execution.args: Execution arguments must be an array; not "hello": write [...]'),
    (execution(env=[1]), "jobs[0].execution.env: Execution environment must be an dictionary; not [1]: write {"),
    (execution(env={"A": None}), "jobs[0].execution.env.A: null is not text; write"),
    (execution(wd=7), "jobs[0].execution.wd: 7 is not text; put it into quotes"),
    (execution(model="nope"), 'jobs[0].execution.model: unknown job execution model "nope"; known are default'),
    (execution(script="x"), "jobs[0].execution: Job script and exec or args or env defined; a script has its own"),
    (
        resources(numCores=200),
        "jobs[0].resources: Not enough resources for job a: 200 cores are needed, the pilot has 2",
    ),
    (resources(numNodes=9), "jobs[0].resources: Not enough resources for job a: 9 nodes are needed, the pilot has 1"),
    (resources(nodeCrs={"gpu": 1}), "jobs[0].resources: Not enough resources for job a: 1 GPU on a node is needed"),
    (
        resources(numCores="four"),
        'numCores: Wrong definition of number of cores: "four" is not a whole number; write 4',
    ),
    (resources(numCores=-1), "jobs[0].resources.numCores: -1 is negative; ask for at least 1"),
    (resources(numCores={"min": 4, "max": 2}), "jobs[0].resources.numCores.max: 2 is less than min 4; give at least 4"),
    (
        resources(gpu=1),
        "jobs[0].resources: Not enough resources for job a: 1 GPU on a node is needed, no node has a GPU",
    ),
    (resources(GPU=1), "jobs[0].resources.GPU: unknown key; known are apart, gpu, mem, min_time, nodeCrs"),
    (resources(mem="lots"), 'jobs[0].resources.mem: "lots" is not an amount of memory; write 500M or 2G'),
    (resources(mem="500"), 'jobs[0].resources.mem: "500" has no unit; write "500M"'),
    (resources(wt="5 minutes"), 'jobs[0].resources.wt: "5 minutes" is not a wall time; write 1h30m'),
    (job(iteration={"start": 5, "stop": 1}), "jobs[0].iteration: Wrong format of iteration directive: start index"),
    (job(iteration=5), "jobs[0].iteration: Wrong format of iteration directive: not a dictionary; write {"),
    (job(iteration={"stop": "x"}), 'jobs[0].iteration.stop: "x" is not a whole number; write a number such as 4'),
    (job(iteration={"values": []}), "jobs[0].iteration.values: there are no values; give at least one"),
    (job(dependencies={"after": "b"}), 'after: Dependency task\'s list must be an array of job names; not "b": write'),
    (job(dependencies=["b"]), 'jobs[0].dependencies: Job dependencies wrong type; not ["b"]: write {...}'),
    (
        [{**JOB, "dependencies": {"after": ["b"]}}, {**JOB, "name": "b", "dependencies": {"after": ["a"]}}],
        "dependencies.after: jobs wait for each other: a -> b -> a",
    ),
    (job(retries="x"), 'jobs[0].retries: "x" is not a whole number; write a number such as 4'),
    ("hello", "jobs.json: there are no jobs in it; write an array of job descriptions"),
    ([], "jobs.json: there are no jobs in it; write an array of job descriptions"),
]


def test_wrong_descriptions(wd: Path, say: Callable[..., tuple[int, str]]) -> None:
    """Whatever a pilot refuses is told with its place in the request, in one line; nothing of the file is accepted."""
    file = wd / "jobs.json"
    with LocalManager(["--wd", str(wd), "--nodes", "2"], {"log_file": "/dev/null"}) as pilot:
        for jobs, text in DESCRIPTIONS:
            file.write_text(json.dumps(jobs))
            code, err = say("submit", str(file), "-c", str(pilot.connection_file))
            assert text in err, jobs
            assert (code, err.count("\n")) == (2, 1), jobs
            assert err.startswith("Error: "), jobs
        assert pilot.list() == {}


FILES = {
    "ok.txt": "true\n",
    "empty.txt": "",
    "p.csv": "a,b\n1,2\n",
    "bad.json": '{"name": "x"',
    "bad.yaml": "a:\n\t- b\n",
    "after.yaml": "- {name: a, execution: {exec: 'true'}, dependencies: {after: [zz]}}\n",
    "var.yaml": "- {name: a, execution: {exec: echo, args: ['${nope}']}}\n",
    "notes.md": "rm -rf x\n",
    "no-machine.json": "[1]",
}

LINES: list[tuple[str, int, str]] = [
    ("run", 2, "nothing to run; give a FILE, - or -- COMMAND"),
    ("run nothere.txt", 2, "nothere.txt: cannot be read: No such file or directory"),
    ("run folder", 2, "folder: cannot be read: Is a directory"),
    ("run empty.txt", 2, "empty.txt: there is no task in it; write one command per line"),
    ("run bad.json", 2, "bad.json: is not JSON: Expecting ',' delimiter: line 1 column 13"),
    ("run bad.yaml", 2, "bad.yaml: is not YAML: found character '\\t'"),
    ("run p.csv", 2, "p.csv: is a table of parameters, not a file of tasks; say what is to run for each row"),
    ("run notes.md", 2, "notes.md: is of no kind known here (.md)"),
    ("run after.yaml", 2, "after.yaml: jobs[0].dependencies.after[0]: there is no job 'zz'"),
    ("run var.yaml", 2, "var.yaml: jobs[0].execution.args[0]: ${nope} is no variable"),
    ("run ok.txt --nodes abc", 2, '--nodes: entry 1: "abc" is not a number of cores; write 4'),
    ("run ok.txt --nodes 0", 2, '--nodes: entry 1: "0": number of cores for a node must not be less than 1'),
    ("run ok.txt --cores four", 2, "--cores: 'four' is not a whole number; see `pilotfish run --help`"),
    ("run ok.txt --iterations x", 2, "--iterations: 'x' is not a whole number"),
    ("run --iterations -1 -- true", 2, "--iterations: -1 is not in the range x>=1"),
    ("run ok.txt --max-fails -1", 2, "--max-fails: -1 is not in the range x>=1"),
    ("run ok.txt --retries x", 2, "--retries: 'x' is not a whole number"),
    ("run ok.txt --nope", 2, "No such option '--nope'"),
    ("run ok.txt --format nope", 2, "--format: 'nope' is not one of 'json', 'yaml', 'toml', 'lines'"),
    ("run ok.txt --resume nowhere", 2, "--resume: Path 'nowhere' does not exist"),
    ("run ok.txt --walltime never", 2, '--walltime: "never" is not a wall time; write 1h30m'),
    ("run --params nowhere.csv -- echo {a}", 2, "--params: File 'nowhere.csv' does not exist"),
    ("run --params p.csv -- echo {c}", 2, "{c} is no parameter; known are a, b"),
    ("run --grid a -- echo {a}", 2, "--grid: 'a' is not NAME=VALUES; write --grid alpha=0.1,0.2"),
    ("sttaus", 2, "There is no command 'sttaus'. Did you mean 'status'?"),
    ("jobs", 3, "no running pilot found"),
    ("jobs -c nowhere", 3, "nowhere"),
    ("info", 2, "Missing argument 'NAMES...'; see `pilotfish info --help`"),
    ("cancel", 2, "Missing argument 'NAMES...'"),
    ("submit nothere.yaml", 2, "nothere.yaml: cannot be read"),
    ("submit bad.json", 2, "bad.json: is not JSON"),
    ("submit ok.txt", 3, "no running pilot found"),
    ("agent", 2, "Missing option '--connect' / '-c'"),
    ("agent -c .", 3, "no running pilot found"),
    ("service --nodes abc", 2, '--nodes: entry 1: "abc" is not a number of cores'),
    ("service --log lowd", 2, "--log: 'lowd' is not one of 'critical', 'error'"),
    ("show nowhere", 3, "there is no run here; say which with RUN or --wd, or start one with pilotfish run"),
    ("cat nowhere x", 3, "there is no run here"),
    ("wait nowhere", 3, "there is no run here"),
    ("rm nowhere", 3, "there is no run here"),
    ("submissions status zz", 2, "no submissions begin with 'zz'; `pilotfish submissions` lists them"),
    ("submissions statsu zz", 2, "There is no command 'statsu'. did you mean 'status'?"),
    ("submissions watch", 2, "Missing argument 'ID'"),
    ("doctor nowhere", 2, "machine: there is no machine 'nowhere'; put a file nowhere.json"),
    ("doctor no-machine.json", 2, "no-machine.json: has no machine; name a machine file, or a submission"),
    ("script nowhere.py", 2, "FILE: File 'nowhere.py' does not exist"),
    ("script ok.txt", 2, "ok.txt: No PEP 723 metadata found.; begin the script with one `# /// script`"),
    ("completion tcsh", 2, "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ("job show zz", 2, "no batch jobs have an id or a hash like 'zz'; `pilotfish job list` lists them"),
    ("job run", 2, "Missing argument 'COMMAND'"),
    ("job cancle", 2, "No such command 'cancle'"),
]


@pytest.mark.parametrize(("line", "code", "text"), LINES, ids=[line for line, _, _ in LINES])
def test_wrong_command_lines(
    wd: Path,
    say: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    code: int,
    text: str,
) -> None:
    monkeypatch.chdir(wd)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(wd / "config"))
    for name, content in FILES.items():
        (wd / name).write_text(content)
    (wd / "folder").mkdir()
    found, err = say(*line.split(" "))
    assert text in err
    assert (found, err.count("\n")) == (code, 1), err
    assert err.startswith("Error: ")


CALLS: list[tuple[Callable[[], object], str]] = [
    (lambda: Jobs().add(name="a", exe="true"), "Unknown attribute exe; did you mean exec?"),
    (lambda: Jobs().add(name="a"), "No 'exec' nor 'script' defined; job 'a' needs exec="),
    (lambda: Jobs().add(exec="true", script="true"), "Both 'exec' and 'script' defined; leave one of them out"),
    (lambda: Jobs().add(exec="true", numCores="four"), "numCores type <class 'str'>; 'four' is not a whole number or"),
    (lambda: Jobs().add(exec="true", after=5), "Invalid attribute after type <class 'int'>; 5 is not a list or text"),
    (lambda: Jobs().add(exec="true", iteration="x"), "'x' is not a whole number or a list or a range or a mapping"),
    (lambda: Jobs().add(name="a", exec="x").add(name="a", exec="x"), "Job a already in list; give it another name"),
    (lambda: Jobs().add_std(name="a"), "Missing \"execution/exec\" key; job 'a': give execution="),
    (lambda: Jobs().remove("zz"), "zz; it is not in this list"),
    (lambda: LocalManager("--nodes 4"), "server_args is one text; give a list of words: ['--nodes', '4']"),
    (lambda: LocalManager(["--nope"]), "No such option '--nope'"),
    (lambda: Manager("nowhere/connection.json"), "nowhere"),
]


@pytest.mark.parametrize(("call", "text"), CALLS, ids=[text for _, text in CALLS])
def test_wrong_calls(wd: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[], object], text: str) -> None:
    monkeypatch.chdir(wd)
    with pytest.raises(PilotfishError, match=re.escape(text)) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_sequences_are_as_good_as_lists() -> None:
    """... where a list is wanted: people write tuples and ranges."""
    jobs = Jobs().add(name="a", exec="echo", args=("x", 1), iteration=range(3)).add(name="b", exec="x", args=range(2))
    (first, second) = jobs.ordered_jobs()
    assert first["execution"]["args"] == ["x", "1"]
    assert second["execution"]["args"] == ["0", "1"]
