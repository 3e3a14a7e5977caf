"""What the controller of `pilotfish as slurm` decides, without a process: options, arrays, dependencies, shapes, the queue."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from pilotfish.launcher.adapters.slurm import (
    arguments,
    arrays,
    batch_step,
    dependencies,
    exports,
    moments,
    request,
    squeue,
)
from pilotfish.launcher.adapters.slurm.errors import Refusal
from pilotfish.launcher.adapters.slurm.jobs import Job, Queue, pending_label
from pilotfish.launcher.adapters.slurm.options import SBATCH, SRUN, Treatment
from pilotfish.launcher.adapters.slurm.request import Node, Request, Shape, Site
from pilotfish.launcher.adapters.slurm.step_plan import plan
from pilotfish.launcher.machines import slurm_facts
from pilotfish.launcher.machines.slurm import DIRECTIVES

SITE = Site((Node("n1", 4, 0, 8000), Node("n2", 4, 2, 8000)), ("debug", "small"))


def asked(*words: str, script: str = "#!/bin/sh\n", environ: dict[str, str] | None = None, now: float = 0.0) -> Request:
    """What sbatch makes of these words."""
    given = arguments.of_sbatch(words, script, environ or {}, SBATCH)
    return request.build(given, script, "", "/w", environ or {}, SITE, now, "")


def refusal(*words: str) -> str:
    with pytest.raises(Refusal) as caught:
        asked(*words)
    return caught.value.text


# --- options ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["-n4"], ["-n", "4"], ["--ntasks=4"], ["--ntasks", "4"], ["-Hn4"]])
def test_an_option_may_be_written_in_each_way_of_getopt(words: list[str]) -> None:
    """Short and long, joined and apart, behind a flag."""
    assert arguments.read("sbatch", words, SBATCH).values["ntasks"] == "4"


def test_the_first_word_that_is_no_option_ends_them() -> None:
    """What follows belongs to the script."""
    assert arguments.read("sbatch", ["-n4", "job.sh", "-n", "9"], SBATCH) == ({"ntasks": "4"}, ["job.sh", "-n", "9"])


def test_the_command_line_goes_before_variables_before_lines() -> None:
    """As sbatch(1) says."""
    script = "#!/bin/sh\n#SBATCH --job-name=line -A line --comment='a # b' # not this\n#SBATCH -p small\necho\n#SBATCH -n 4\n"
    job = asked("-J", "word", script=script, environ={"SBATCH_JOB_NAME": "variable", "SBATCH_ACCOUNT": "variable"})
    assert (job.name, job.account, job.comment, job.partition, job.ntasks) == (
        "word",
        "variable",
        "a # b",
        "small",
        None,
    )


@pytest.mark.parametrize(
    "option", [each for each in SBATCH if each.treatment is Treatment.REFUSED], ids=lambda each: each.name
)
def test_what_a_pilot_cannot_do_is_refused(option: Any) -> None:
    """None is ignored in silence."""
    word = f"--{option.name}" + ("=x" if option.value.name == "REQUIRED" else "")
    assert refusal(word).startswith("sbatch: error: ")


def test_what_our_own_launcher_writes_is_understood() -> None:
    """Every directive of the Slurm machine is an option of the table."""
    names = {option.name for option in SBATCH}
    rows = [row for row in DIRECTIVES.rows.values() if isinstance(row, str) and row]
    assert {row.split()[0].partition("=")[0].removeprefix("--") for row in rows} <= names


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--bogus"], "sbatch: unrecognized option '--bogus'\nTry \"sbatch --help\" for more information"),
        (["-t"], "sbatch: option requires an argument -- 't'\nTry \"sbatch --help\" for more information"),
        (["-n", "0"], 'sbatch: error: Invalid numeric value "0" for --ntasks.'),
        (["-t", "xx"], "sbatch: error: Invalid --time specification"),
        (["-a", "5-2"], "sbatch: error: Batch job submission failed: Invalid job array specification"),
        (["-d", "foo:1"], "sbatch: error: Batch job submission failed: Job dependency problem"),
        (["-w", "n1"], "sbatch: error: Batch job submission failed: Invalid node name specified"),
        (["-N", "9"], "sbatch: error: Batch job submission failed: Node count specification invalid"),
        (["-c", "9"], "sbatch: error: Batch job submission failed: Requested node configuration is not available"),
        (["--mem=9000G"], "sbatch: error: Batch job submission failed: Requested node configuration is not available"),
        (["--gres=fpga:1"], "sbatch: error: Invalid generic resource (gres) specification"),
        (["-C", "a|b"], "sbatch: error: Batch job submission failed: Invalid feature specification"),
        (["--mail-type=END"], "sbatch: error: --mail-type: a pilot sends no mail"),
        (
            ["-p", "no"],
            "sbatch: error: invalid partition specified: no\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified",
        ),
    ],
)
def test_refusals_are_slurms_own(words: list[str], text: str) -> None:
    """Compared with a Slurm 22.05."""
    assert refusal(*words) == text


# --- what a job asks for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "shape"),
    [
        ([], Shape(1, 1, (1,))),
        (["-n", "3"], Shape(1, 3, (3,))),
        (["-n", "6"], Shape(2, 3, (3, 3))),
        (["-n", "3", "-c", "2"], Shape(2, 4, (2, 1))),
        (["-N", "2"], Shape(2, 1, (1, 1))),
        (["-N", "2", "--ntasks-per-node=3"], Shape(2, 3, (3, 3))),
        (["-n1", "-N2", "--ntasks-per-node=2"], Shape(1, 1, (1,))),
        (["-N", "2", "--exclusive"], Shape(2, 1, (1, 1), whole=True)),
        (["--mem=2G"], Shape(1, 1, (1,), mem_mib=2048)),
        (["--mem-per-cpu=100", "-c3"], Shape(1, 3, (1,), mem_mib=300)),
        (["--gres=gpu:2"], Shape(1, 1, (1,), gpus=2)),
        (["-G", "1"], Shape(1, 1, (1,), gpus=1)),
        (["--gpus-per-task=1", "-n2"], Shape(1, 2, (2,), gpus=2)),
    ],
)
def test_the_shape_of_a_job(words: list[str], shape: Shape) -> None:
    """On two nodes of four cores."""
    assert asked(*words).shape == shape


def test_a_request_becomes_a_job_of_the_pilot() -> None:
    """All that decides where and how long it runs."""
    job = asked("-N2", "--ntasks-per-node=2", "--mem=100M", "-t", "1:30", "-C", "a&b", "--nice=5")
    assert request.describe(job, "x", ["python", "f"]) == {
        "name": "x",
        "execution": {"exec": "python", "args": ["f"], "wd": "/"},
        "resources": {"numNodes": 2, "numCores": 2, "mem": "100M", "tags": ["a", "b"], "wt": "120s"},
        "attributes": {"slurm_name": "sbatch"},
        "priority": -5,
    }


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("ALL", {"A": "1", "B": "2", "PATH": "p"}),
        ("NIL", {}),
        ("A", {"A": "1", "PATH": "p"}),
        ("ALL,A=9", {"A": "9", "B": "2", "PATH": "p"}),
        ("NONE", {"PATH": "p"}),
    ],
)
def test_export(text: str, kept: dict[str, str]) -> None:
    """What a job has of the environment of the program that submits it."""
    assert exports.exported(text, {"A": "1", "B": "2", "PATH": "p"}) == kept


@pytest.mark.parametrize(
    ("text", "minutes"), [("5", 5), ("5:01", 6), ("1:00:00", 60), ("1-0", 1440), ("1-1:30", 1530), ("UNLIMITED", None)]
)
def test_time_limits_are_whole_minutes(text: str, minutes: int | None) -> None:
    """Seconds count as a minute more."""
    assert slurm_facts.minutes(text) == minutes


def test_begin() -> None:
    """Seconds since the epoch."""
    assert [moments.parse(text, 1e9) - 1e9 for text in ("now", "now+60", "now+2hours", "now+1week")] == [
        0,
        60,
        7200,
        604800,
    ]
    assert moments.parse("2001-09-09T12:00", 1e9) == moments.parse("09/09/01-12:00:00", 1e9)


def test_arrays() -> None:
    """Ranges, steps, lists, and how many at once."""
    assert arrays.parse("0-6:3,9%2") == arrays.Array([0, 3, 6, 9], 2)


def test_host_lists_are_folded_as_scontrol_does() -> None:
    """The batch step has a copy, because it can import nothing."""
    for names, text in (
        (["n1", "n2", "n3", "a"], "n[1-3],a"),
        (["n01", "n02", "n10"], "n[01-02,10]"),
        (["n2", "n1"], "n[2,1]"),
        (["login"], "login"),
        (["a1b1", "a1b2", "a2b1"], "a1b[1-2],a2b1"),
        (["n9", "n10"], "n[9-10]"),
    ):
        assert slurm_facts.hostlist(names) == batch_step.hostlist(names) == text


def test_patterns_of_file_names() -> None:
    """Filled in on the node, which alone knows its name."""
    job = {"id": 12, "array_id": 10, "index": 3, "name": "sim", "user": "me"}
    assert batch_step.file_name("%x-%A_%a-%4j-%N-%u-%%j.out", job, "n1.site") == "sim-10_3-0012-n1-me-%j.out"
    assert batch_step.file_name("o-%j-%s-%t-%n", job, "n1", "2", 5, 1) == "o-12-2-5-1"


# --- the queue ----------------------------------------------------------------------------------------------------------


class World:
    """A queue whose jobs run as long as the test says."""

    def __init__(self) -> None:
        ids = count(1)
        self.queue = Queue("s", lambda size: min(next(ids) for _ in range(size)))
        self.now = 0.0

    def submit(self, *words: str) -> int:
        return self.queue.submit(asked(*words, now=self.now), self.now)

    def job(self, number: int, element: int | None = None) -> Job:
        return self.queue.jobs_of(number, element)[0]

    def begin(self) -> list[str]:
        """Start what may start; the pilot has room for all."""
        started = self.queue.plan(self.now)
        for job in started:
            self.queue.on_start(job.pilot_name, ["n1"], self.now)
        return [job.label for job in started]

    def end(self, number: int, code: int = 0, element: int | None = None) -> None:
        job = self.job(number, element)
        state = ("FAILED", "NonZeroExitCode") if code else ("COMPLETED", "None")
        self.queue.on_end(job.pilot_name, *state, code, 0, self.now)


@pytest.mark.parametrize(
    ("kind", "after_good", "after_bad"),
    [
        ("afterok", True, "DependencyNeverSatisfied"),
        ("afternotok", "DependencyNeverSatisfied", True),
        ("afterany", True, True),
    ],
)
@pytest.mark.parametrize("code", [0, 1])
def test_dependencies(kind: str, after_good: object, after_bad: object, code: int) -> None:
    """It waits for the end, then it starts, or never will."""
    world = World()
    first = world.submit()
    second = world.submit("-d", f"{kind}:{first}")
    assert world.begin() == ["1"]
    assert world.job(second).reason == "Dependency"
    world.end(first, code)
    outcome: object = world.begin() == ["2"] or world.job(second).reason
    assert outcome == (after_bad if code else after_good)


def test_after_waits_for_the_start_and_some_minutes() -> None:
    """`after:ID+MINUTES`."""
    world = World()
    first = world.submit()
    world.begin()
    world.submit("-d", f"after:{first}+2")
    assert world.begin() == []
    assert world.queue.next_look() == 120.0
    world.now = 120.0
    assert world.begin() == ["2"]


def test_one_of_several_dependencies() -> None:
    """`?` instead of a comma."""
    world = World()
    first, second = world.submit(), world.submit()
    world.submit("-d", f"afterok:{first}?afterok:{second}")
    world.begin()
    world.end(first, 1)
    assert world.begin() == []
    world.end(second)
    assert world.begin() == ["3"]


def test_an_invalid_dependency_may_end_the_job() -> None:
    """`--kill-on-invalid-dep=yes`."""
    world = World()
    first = world.submit()
    second = world.submit("-d", f"afterok:{first}", "--kill-on-invalid-dep=yes")
    world.begin()
    world.end(first, 1)
    world.begin()
    assert world.job(second).state == "CANCELLED"


def test_singleton() -> None:
    """One after the other, those of one name."""
    world = World()
    world.submit("-J", "a")
    world.submit("-J", "a", "-d", "singleton")
    world.submit("-J", "b", "-d", "singleton")
    assert world.begin() == ["1", "3"]
    world.end(1)
    assert world.begin() == ["2"]


def test_an_array_runs_so_many_at_once() -> None:
    """The others wait with Slurm's reason, in one row."""
    world = World()
    world.submit("-a", "1-5%2")
    assert world.begin() == ["1_1", "1_2"]
    waiting = [job for job in world.queue.jobs_of(1) if job.state == "PENDING"]
    assert {job.reason for job in waiting} == {"JobArrayTaskLimit"}
    assert pending_label(1, waiting) == "1_[3-5%2]"
    world.end(1, element=1)
    assert world.begin() == ["1_3"]
    assert world.job(1, 5).id == 1  # the last has the id of the array


def test_aftercorr_pairs_elements() -> None:
    """Each waits for the one of its index."""
    world = World()
    world.submit("-a", "0-1")
    other = world.submit("-a", "0-1", "-d", "aftercorr:1")
    world.begin()
    world.end(1, element=1)
    assert world.begin() == [f"{other}_1"]


def test_hold_release_requeue() -> None:
    """A job that was requeued counts its starts; one that is held waits."""
    world = World()
    number = world.submit("-H")
    assert world.begin() == []
    assert world.job(number).reason == "JobHeldUser"
    world.queue.release(world.job(number))
    assert world.begin() == ["1"]
    name = world.queue.requeue(world.job(number))
    world.queue.on_end(name, "CANCELLED", "None", 0, 15, 1.0)
    assert (world.job(number).state, world.job(number).restarts) == ("PENDING", 1)
    assert world.begin() == ["1"]
    assert world.job(number).pilot_name != name


def test_a_cancelled_job_that_ran_has_its_signal() -> None:
    """One that never ran has none."""
    world = World()
    world.submit()
    world.begin()
    waits = world.submit("-d", "afterok:1")
    for number in (1, waits):
        world.queue.cancel(world.job(number), 0, 1.0)
    world.queue.on_end(world.job(1).pilot_name, "CANCELLED", "None", 0, 15, 2.0)
    assert [(job.state, job.exit_code, job.signal) for job in world.queue] == [
        ("CANCELLED", 0, 15),
        ("CANCELLED", 0, 0),
    ]


def test_words_for_states() -> None:
    """Long, short, several; a wrong one is an error with the right ones."""
    assert squeue.states_of("squeue", "PD,running") == frozenset({"PENDING", "RUNNING"})
    assert squeue.states_of("squeue", "all") is None
    with pytest.raises(Refusal, match="Invalid job state specified: bogus"):
        squeue.states_of("squeue", "bogus")


# --- steps --------------------------------------------------------------------------------------------------------------


def test_tasks_of_a_step_go_round_the_nodes() -> None:
    """Numbered along the nodes."""
    step = plan({"ntasks": "3"}, "hostname", {"n1": 4, "n2": 2}, {}, "7")
    assert [(task.rank, task.node, task.local) for task in step.tasks] == [(0, "n1", 0), (1, "n1", 1), (2, "n2", 0)]
    assert step.cores == {"n1": 4, "n2": 2}


def test_an_exact_step_leaves_cores_to_others() -> None:
    """`--exact`, and `-c`, which means the same."""
    assert plan({"ntasks": "1", "exact": ""}, "x", {"n1": 4}, {}, "7").cores == {"n1": 1}
    assert plan({"ntasks": "1", "cpus-per-task": "2"}, "x", {"n1": 4}, {}, "7").cores == {"n1": 2}
    assert plan({"ntasks": "1", "overlap": ""}, "x", {"n1": 4}, {}, "7").cores == {}


def test_a_step_of_fewer_tasks_than_nodes_warns(capsys: pytest.CaptureFixture[str]) -> None:
    """As srun does, unless it is to be quiet."""
    plan({"ntasks": "1"}, "x", {"n1": 4, "n2": 4}, {"SLURM_NNODES": "2"}, "7")
    plan({"ntasks": "1", "quiet": ""}, "x", {"n1": 4, "n2": 4}, {"SLURM_NNODES": "2"}, "7")
    assert capsys.readouterr().err == "srun: Warning: can't run 1 processes on 2 nodes, setting nnodes to 1\n"


def test_more_tasks_than_cores_are_refused() -> None:
    """As srun says it."""
    with pytest.raises(Refusal) as caught:
        plan({"ntasks": "9"}, "x", {"n1": 4}, {}, "7")
    assert caught.value.text == "srun: error: Unable to create step for job 7: More processors requested than permitted"


def test_tables_have_no_name_twice() -> None:
    """Short names too."""
    for table in (SBATCH, SRUN):
        for names in ([option.name for option in table], [option.short for option in table if option.short]):
            assert len(names) == len(set(names))


def test_a_dependency_is_printed_as_it_was_written() -> None:
    """Clause by clause."""
    parsed = dependencies.parse("afterok:1:2_3,afterany:4")
    assert [str(clause) for clause in parsed.clauses] == ["afterok:1", "afterok:2_3", "afterany:4"]
