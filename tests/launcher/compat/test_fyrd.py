"""fyrd's jobs, options, profiles and queues."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from pilotfish import fyrd
from pilotfish.launcher.compat.fyrd.functions import FunctionError
from pilotfish.launcher.compat.fyrd.queue_job import QueueJob
from pilotfish.launcher.submission.job_options import OptionsError
from pilotfish.launcher.submission.profiles import ProfileError

SHELL = {"batch_type": "Shell", "context_type": "LazyLocal", "local_root": "."}


@pytest.fixture(autouse=True)
def here(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(wd)
    monkeypatch.setenv("HOME", str(wd))


@pytest.fixture
def queue() -> Iterator[fyrd.JobQueue]:
    with fyrd.JobQueue(cores=2) as made:
        yield made


@pytest.fixture(params=["local", "machine"])
def place(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Where a job runs: in a pilot of ours, or as a job of a machine."""
    if request.param == "machine":
        yield {"machine": SHELL}
        return
    with fyrd.JobQueue(cores=2) as made:
        yield {"qtype": "local", "queue": made}


def double(value: int, plus: int = 0) -> int:
    print("called")
    return value * 2 + plus


def fail(value: object) -> None:
    raise KeyError(value)


# --- jobs -------------------------------------------------------------------------------------------------------------------


def test_a_command(place: dict[str, Any], wd: Path) -> None:
    job = fyrd.Job("echo", ["a b", "$HOME"], name="hello", runpath="run", **place)
    assert job.state == "Not_Submitted"
    assert job.submit().get() == "a b $HOME\n"
    assert (job.state, job.exitcode, job.stderr) == ("completed", 0, "")
    assert job.runtime is not None
    names = [f"hello.{job.uuid}.cluster.err", f"hello.{job.uuid}.cluster.out"]
    assert sorted(path.name for path in (wd / "run").iterdir()) == names
    assert job.get() == "a b $HOME\n"


def test_a_command_that_fails(place: dict[str, Any]) -> None:
    job = fyrd.submit("echo out; echo err >&2; exit 3", clean_outputs=True, **place)
    assert not job.wait()
    assert job.get() == "out\n"
    assert (job.exitcode, job.state, job.stderr) == (3, "failed", "err\n")
    assert not Path(job.outfile).exists()


def test_a_function(place: dict[str, Any], wd: Path) -> None:
    job = fyrd.Job(double, [21], {"plus": 1}, syspaths=[str(Path(__file__).parent)], **place)
    assert job.submit().get() == 43
    assert job.stdout == "called\n"
    assert [path.name for path in wd.iterdir() if "pickle" in path.name or path.suffix == ".py"] == []


def test_a_function_that_raises(place: dict[str, Any]) -> None:
    job = fyrd.Job(fail, [7], **place).submit()
    with pytest.raises(KeyError, match="7") as caught:
        job.get()
    assert "in fail" in str(caught.value.__cause__)
    assert isinstance(job.get(raise_on_error=False), KeyError)
    assert job.exitcode == 1


def test_a_job_is_killed(place: dict[str, Any]) -> None:
    job = fyrd.submit("sleep 1000", **place)
    assert job.kill(confirm=False)
    assert not job.kill(confirm=False)
    assert (job.state, job.wait()) == ("cancelled", False)
    with pytest.raises(fyrd.ClusterError, match="cancelled"):
        job.get()
    again = job.resubmit()
    assert again.name.startswith("sleep.")
    assert again.kill()


def test_a_time_limit(place: dict[str, Any]) -> None:
    job = fyrd.submit("sleep 1000", time="1", **place)
    assert not job.wait()
    assert (job.state, job.reason, job.exitcode) == ("failed", "time limit", 143)


def test_functions_of_a_script_and_their_classes(wd: Path) -> None:
    (wd / "main.py").write_text(
        """
from pilotfish import fyrd

class Point:
    def __init__(self, x): self.x = x

def make(x): return Point(x)

@fyrd.jobify(machine={"batch_type": "Shell", "context_type": "LazyLocal", "local_root": "."})
def shown(point): return point.x + 1

if __name__ == "__main__":
    with fyrd.JobQueue(cores=1) as queue:
        point = fyrd.Job(make, [4], qtype="local", queue=queue).get()
    print(type(point) is Point, point.x, shown(point).get(), shown.__wrapped__(point))
"""
    )
    done = subprocess.run([sys.executable, "main.py"], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert done.stdout == "True 4 5 5\n"


def test_functions_without_a_name_go_by_value(place: dict[str, Any]) -> None:
    """With what they have from around them, and what they return; a lambda may even raise something of its own."""

    class Odd(Exception):
        pass

    def scaled(value: int) -> Any:
        return Point(value * factor) if value else fail(Odd("nothing"))

    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    factor = 3
    assert fyrd.Job(lambda value: value + factor, [4], **place).submit().get() == 7
    point = fyrd.Job(scaled, [4], **place).submit().get()
    assert (type(point), point.x) == (Point, 12)
    with pytest.raises(KeyError):
        fyrd.Job(scaled, [0], **place).submit().get()


def test_functions_typed_at_a_prompt(wd: Path) -> None:
    typed = """
from pilotfish import fyrd
class Point:
    def __init__(self, x): self.x = x

def shown(point): return Point(point.x + 1)

queue = fyrd.JobQueue(cores=1)
point = fyrd.Job(shown, [Point(1)], qtype="local", queue=queue).get()
print(type(point) is Point, point.x)
queue.close()
"""
    done = subprocess.run(
        [sys.executable], input=typed, capture_output=True, text=True, timeout=PATIENCE_S, cwd=wd, check=True
    )
    assert done.stdout == "True 2\n"


def test_what_cannot_be_sent() -> None:
    with pytest.raises(FunctionError, match="cannot be pickled: cannot pickle"):
        fyrd.make_job_file(double, [threading.Lock()], machine=SHELL)
    fyrd.set_option("jobs", "auto_submit", False)
    with pytest.raises(fyrd.ClusterError, match="call submit"):
        fyrd.make_job("true", machine=SHELL).wait()
    with pytest.raises(fyrd.ClusterError, match="is Not_Submitted"):
        fyrd.make_job("true", machine=SHELL, depends=fyrd.make_job("true", machine=SHELL)).submit()


# --- the queue of this machine ------------------------------------------------------------------------------------------------


def test_jobs_share_cores_and_wait_for_each_other(queue: fyrd.JobQueue, wd: Path, wait_until: Any) -> None:
    first = queue.add("until [ -e go ]; do sleep 0.05; done; echo 1 >> order", cores=2)
    second = queue.add("echo 2 >> order", dependencies=[first])
    third = queue.add("echo 3 >> order", dependencies=[queue[second]])
    wait_until(lambda: list(queue.running) == [first], "the first to run")
    assert list(queue.waiting) == [second, third]
    view = fyrd.Queue(qtype="local", queue=queue)
    assert [(job.state, job.threads) for job in view.update()] == [("running", 2), ("pending", 1), ("pending", 1)]
    (wd / "go").touch()
    assert queue.wait()
    assert fyrd.wait(queue.jobs.values())
    assert (wd / "order").read_text() == "1\n2\n3\n"
    assert sorted(queue.done) == sorted([first, second, third])
    assert len(queue) == 3


def test_a_forked_child_that_ends_leaves_the_queue_alone(wd: Path) -> None:
    """Neither its jobs nor its folder are gone when the child leaves the block and runs what is to run at exit."""
    program = """
import os, sys
from pilotfish import fyrd
with fyrd.JobQueue(cores=1) as queue:
    queue.wait(queue.add("true"))
    if not (child := os.fork()):
        sys.exit()
    os.waitpid(child, 0)
    print(queue.wait(queue.add("true")), os.path.isdir(queue.manager.connection_file.parent))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.stdout == "True True\n", done.stderr


def test_who_depends_on_what_failed_does_not_run(queue: fyrd.JobQueue, wd: Path) -> None:
    first = queue.add("until [ -e go ]; do sleep 0.05; done; exit 1")
    second = queue.add("touch ran", dependencies=[first])
    (wd / "go").touch()
    assert not queue.wait()
    assert not (wd / "ran").exists()
    with pytest.raises(fyrd.ClusterError):
        queue.get(second)
    assert queue.get(queue.add(double, [3])) == 6


# --- options and profiles -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"cpus": "3"}, {"cores": 3}),
        ({"walltime": "1-02:03"}, {"time": "26:03:00"}),
        ({"time": "03"}, {"time": "00:00:03"}),
        ({"time": "99:99"}, {"time": "01:40:39"}),
        ({"time": "1-00:00:00"}, {"time": "24:00:00"}),
        ({"memory": "4GB"}, {"mem": 4096}),
        ({"mem": "4.5 GB"}, {"mem": 4608}),
        ({"mem": "4000b"}, {"mem": 1}),
        ({"mem": 2}, {"mem": 2}),
        ({"modules": "a,b; c"}, {"modules": ["a", "b", "c"]}),
        ({"queue": "q", "dependencies": 5}, {"partition": "q", "depends": [5]}),
        ({"cleanfiles": False}, {"clean_files": False}),
    ],
)
def test_options_are_checked(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert fyrd.check_arguments(given) == expected


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"corse": 1}, "Unrecognized argument corse; did you mean 'cores'"),
        ({"cores": 2.0}, "cores: 2.0 is not a whole number"),
        ({"time": 5}, "time: 5 is not a time"),
        ({"mem": "much"}, "mem: 'much' is not an amount of memory"),
        ({"clean_files": 1}, "clean_files: 1 is not True or False"),
    ],
)
def test_wrong_options(given: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionsError, match=text) as caught:
        fyrd.check_arguments(given)
    assert isinstance(caught.value, fyrd.ClusterError)


def test_options_as_directives() -> None:
    given = {
        "nodes": 2,
        "cores": 4,
        "mem": "4GB",
        "time": "1-0",
        "queue": "q",
        "features": ["a", "b"],
        "depends": [1, 2],
    }
    assert fyrd.options_to_string(given, "slurm").splitlines() == [
        "#SBATCH --nodes 2",
        "#SBATCH --ntasks-per-node 1",
        "#SBATCH --cpus-per-task 4",
        "#SBATCH --partition q",
        "#SBATCH --time 24:00:00",
        "#SBATCH --mem 4096M",
        "#SBATCH --dependency afterok:1:2",
        "#SBATCH --constraint=a&b",
    ]
    assert fyrd.option_to_string("time", "1:00:00", "torque") == "#PBS -l walltime=01:00:00"
    assert fyrd.option_to_string("clean_files", True) == ""
    with pytest.raises(OptionsError, match="features: queues of the kind lsf have nothing for it"):
        fyrd.options_to_string({"features": "x"}, "lsf")


def test_options_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert "walltime" in fyrd.option_help()
    assert "features" not in fyrd.option_help("list", qtype="lsf")
    torque = fyrd.options_to_string({"nodes": 2, "cores": 5, "features": ["big", "fast"]}, "torque").splitlines()
    assert torque[0] == "#PBS -l nodes=2:ppn=5:big:fast"
    assert fyrd.option_help("table")[0][:2] == ("cores", "int")
    fyrd.option_help("print")
    assert "cores (int, default 1; also cpus, threads)" in capsys.readouterr().out


def test_profiles(wd: Path) -> None:
    assert fyrd.get_profile("large").cores == 16
    fyrd.set_profile("DEFAULT", {"mem": "1G", "partition": "q"})
    fyrd.set_profile("mine", {"cpus": 3})
    mine = fyrd.get_profile("mine")
    assert (mine.cores, mine.mem, mine.partition, mine.nodes, mine.qos) == (3, 1024, "q", 1, None)
    mine.time = "10:00"
    mine.write()
    job = fyrd.Job("true", profile="mine", nodes=2, machine=SHELL)
    assert {name: job.options[name] for name in ("cores", "nodes", "time")} == {
        "cores": 3,
        "nodes": 2,
        "time": "00:10:00",
    }
    assert fyrd.Job("true", profile="default", machine=SHELL).options["mem"] == 1024
    assert sorted(fyrd.get_profiles()) == ["DEFAULT", "large", "long", "mine", "small", "small_clean"]
    fyrd.del_profile("mine")
    with pytest.raises(ProfileError, match="no profile is called 'mine'; known are DEFAULT, large"):
        fyrd.get_profile("mine")
    with pytest.raises(OptionsError, match="Unrecognized argument corse"):
        fyrd.get_profile().corse = 1


def test_profiles_of_fyrd_are_read(wd: Path) -> None:
    (wd / ".fyrd").mkdir()
    (wd / ".fyrd/profiles.txt").write_text(
        "[DEFAULT]\nnodes = 1\ncores = 1\nmem = 4000\ntime = 04:00:00\n[big]\ncores = 8\n"
    )
    assert fyrd.get_profile("big").args == {"nodes": 1, "cores": 8, "mem": 4000, "time": "04:00:00"}


# --- queues of batch systems --------------------------------------------------------------------------------------------------

SQUEUE = """\
12|run me|ann|batch|RUNNING|n[01-02]|2|8
13_1|a|b|bob|batch|PENDING||1|1
14|end|ann|long|COMPLETED|n01|1|1
"""
SACCT = """\
14|end|ann|long|COMPLETED|n01|1|1|0:0
14.batch|batch||||n01|1|1|0:0
15|kill|ann|long|CANCELLED by 0|n01|1|1|0:15
16|mem|ann|long|OUT_OF_MEMORY|n01|1|1|0:125
17|bad|ann|long|FAILED|n01|1|1|3:0
"""
QSTAT = """<Data><Job><Job_Id>7.head.example</Job_Id><Job_Name>sim</Job_Name><Job_Owner>ann@head</Job_Owner>
<job_state>R</job_state><queue>q</queue><Variable_List>A=<&,B=2</Variable_List><exec_host>n1/0-3+n2/0</exec_host></Job>
<Job><Job_Id>8.head</Job_Id><Job_Name>x</Job_Name><Job_Owner>ann@head</Job_Owner><job_state>C</job_state>
<queue>q</queue><exit_status>271</exit_status></Job></Data>"""


def listed(command: Any) -> str:
    return {"squeue": SQUEUE, "sacct": SACCT, "qstat": QSTAT}[command[0]]


def test_the_queue_of_slurm() -> None:
    queue = fyrd.Queue(qtype="slurm", run=listed)
    assert queue["12"] == QueueJob("12", "run me", "ann", "batch", "running", "n[01-02]", 8)
    assert queue["13_1"].name == "a|b"
    assert sorted(queue.running) == ["12"]
    assert sorted(queue.queued) == ["13_1"]
    assert sorted(queue.completed) == ["14"]
    assert {name: job.exitcode for name, job in queue.finished.items()} == {"14": 0, "15": 143, "16": 253, "17": 3}
    assert sorted(queue.bad) == ["15", "16", "17"]
    assert (queue.users, queue.active_job_count, len(queue)) == ({"ann", "bob"}, 2, 6)
    assert queue.can_submit(3)
    assert not queue.can_submit(2)
    assert queue.wait(["14"])
    assert not queue.wait([14, 17])
    assert queue.wait({14})
    assert not queue.wait(each for each in [queue["14"], queue["17"]])
    fresh = fyrd.Queue("ann", "batch", "slurm", run=listed)
    assert (len(fresh), [job.id for job in fresh], list(fresh.jobs)) == (1, ["12"], ["12"])


def test_a_job_of_another_cluster_is_not_the_one_of_that_number_here() -> None:
    def ask(command: Any) -> str:
        if "-M" not in command:
            return listed(command)
        assert command[command.index("-M") + 1] == "east"
        return {"squeue": "CLUSTER: east\n", "sacct": "14|there|ann|long|FAILED|e01|1|1|3:0\n"}[command[0]]

    queue = fyrd.Queue(qtype="slurm", run=ask)
    assert (queue["14"].name, queue["14;east"].name) == ("end", "there")
    assert queue["14;east"].id == "14;east"
    assert not queue.wait("14;east")
    assert queue.wait("14")
    with pytest.raises(fyrd.QueueError, match="no job 15;east"):
        queue["15;east"]


def test_a_job_that_is_nowhere() -> None:
    slept: list[float] = []
    queue = fyrd.Queue(qtype="slurm", run=listed, clock=lambda: float(len(slept) * 10), sleep=slept.append)
    with pytest.raises(fyrd.QueueError, match="no job 99 in the queue"):
        queue.wait(99)
    assert len(slept) == 11
    with pytest.raises(fyrd.QueueError, match="no job 99"):
        queue["99"]
    with pytest.raises(fyrd.QueueError, match="no view of queues of the kind 'slrm'"):
        fyrd.Queue(qtype="slrm")


def test_jobs_are_waited_for_by_their_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilotfish.launcher.compat.fyrd.queue._run", listed)
    monkeypatch.setattr("pilotfish.launcher.compat.fyrd.batch_systems.get_cluster_environment", lambda: "slurm")
    assert fyrd.wait("14")
    assert not fyrd.wait([14, "17"])


def test_the_queue_of_torque() -> None:
    queue = fyrd.Queue("ann", qtype="torque", run=listed)
    assert list(queue.update()) == [
        QueueJob("7", "sim", "ann", "q", "running", "n1,n2", 5),
        QueueJob("8", "x", "ann", "q", "failed", "", 0, 271),
    ]


def test_ids_are_taken_as_qsub_prints_them() -> None:
    queue = fyrd.Queue("ann", qtype="torque", run=listed)
    assert queue["8.server.example.org"] == queue[8]
    assert not queue.wait(["8.server.example.org"])


def test_a_job_that_was_not_submitted_has_files_and_nothing_to_remove(wd: Path, queue: fyrd.JobQueue) -> None:
    job = fyrd.Job("echo x", name=7, qtype="local", queue=queue)  # type: ignore[arg-type]
    assert job.outfile == str(wd / f"7.{job.uuid}.cluster.out")
    assert job.clean() is job
    with pytest.raises(fyrd.ClusterError, match="7: is not submitted"):
        job.fetch_outputs()
    assert job.get() == "x\n"


@pytest.mark.parametrize("command", [["echo", "x"], None, 7])
def test_what_is_no_command(command: Any) -> None:
    with pytest.raises(
        fyrd.OptionsError, match=r"command: .* is neither text nor a function; give a command as one text"
    ):
        fyrd.make_job(command)


@pytest.mark.parametrize("jobs", ["12", ["12"], [None]])
def test_only_jobs_have_results(jobs: Any) -> None:
    with pytest.raises(fyrd.ClusterError, match=r"get: .* is no Job"):
        fyrd.get(jobs)


def test_any_iterable_of_jobs_is_waited_for(wd: Path, queue: fyrd.JobQueue) -> None:
    first = fyrd.submit("true", qtype="local", queue=queue)
    jobs: list[fyrd.Job | str] = [first, queue.add("exit 3")]
    kinds: list[Iterable[fyrd.Job | str]] = [set(jobs), iter(jobs), {jobs[1]: 1}]
    for several in kinds:
        assert not queue.wait(several)
    view = fyrd.Queue(qtype="local", queue=queue)
    assert view.get(job for job in [first]) == [""]


def test_a_command_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(fyrd.QueueError, match="qstat: cannot be asked"):
        fyrd.Queue(qtype="torque").update()
    assert fyrd.get_cluster_environment() == "local"
