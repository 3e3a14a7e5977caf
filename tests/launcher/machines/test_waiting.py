"""What a job waits for, in the batch system's own words, and which of these never pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from answers import answered

from pilotfish.launcher.contexts.base import Context, Done
from pilotfish.launcher.description.resources import Resources
from pilotfish.launcher.description.task import Task
from pilotfish.launcher.job.spec import JobToPlace
from pilotfish.launcher.job.states import JobState, Listing, Reason, Status
from pilotfish.launcher.machines import slurm_array
from pilotfish.launcher.machines.base import MachineBusyError, QueueFullError, SubmitRefusedError
from pilotfish.launcher.machines.registry import build_machine
from pilotfish.launcher.submission.batch_job import Phase
from pilotfish.launcher.submission.events import Intent, Submitted
from pilotfish.launcher.submission.state import HOPELESS_POLLS, Progress


class Answers(Context):
    """Commands that contain these words are answered so; the first that fits."""

    kind = "Answers"

    def __init__(self, *answers: tuple[str, Done]) -> None:
        self.answers, self.asked = answers, list[str]()
        self.written: dict[str, bytes] = {}

    def run(self, command: str, **options: Any) -> Done:
        parts, done = answered(command, lambda part: next(done for words, done in self.answers if words in part))
        self.asked += parts
        return done

    def write(self, files: Any, mode: int = 0o600) -> None:
        self.written |= files

    def _unused(self, *words: Any, **options: Any) -> Any:
        raise AssertionError

    root_for = read = list_files = put = get = remove = _unused


def waits(kind: str, job_id: str, listed: str, more: str = "") -> Status:
    context = Answers(("-p ", Done(0, more, "")), ("qstat -j", Done(0, more, "")), ("", Done(0, listed, "")))
    machine = build_machine(kind)
    found = machine.query(context, [job_id])[job_id]
    return machine.reasons(context, [job_id]).get(job_id, found) if more else found


PBS = "Job Id: 7.srv\n    job_state = {}\n    {}\n"
SGE = (
    "<?xml version='1.0'?>\n<job_info><job_list><JB_job_number>7</JB_job_number><state>{}</state></job_list></job_info>"
)
QSTAT_J = "====\njob_number:                 7\n{}\n"
LSF = "JOBID   USER    STAT  QUEUE      FROM_HOST   JOB_NAME   SUBMIT_TIME\n7       ann     PEND  q   h    x   Nov 20\n"
NOT_YET = "Not Running: No available resources on nodes"
TOO_MUCH = "Can Never Run: Insufficient amount of resource: ncpus"
HELD = "job held, too many failed attempts to run"
LOST = "Dependency condition invalid or never satisfied"
LISTED = [  # kind, the listing, another command's answer, what it waits for, never
    ("Slurm", "7|PENDING||Priority\n", "", "Priority", False),
    ("Slurm", "7|PENDING||None\n", "", "", False),
    ("Slurm", "7|PENDING||ReqNodeNotAvail, UnavailableNodes:n1\n", "", "ReqNodeNotAvail, UnavailableNodes:n1", False),
    ("Slurm", "7|PENDING||DependencyNeverSatisfied\n", "", "DependencyNeverSatisfied", True),
    ("Slurm", "7|PENDING||AssocMaxWallDurationPerJobLimit\n", "", "AssocMaxWallDurationPerJobLimit", True),
    ("Slurm", "7|PENDING||QOSMaxNodePerJobLimit\n", "", "QOSMaxNodePerJobLimit", True),
    ("Slurm", "7|PENDING||QOSMaxJobsPerUserLimit\n", "", "QOSMaxJobsPerUserLimit", False),
    ("Slurm", "7|PENDING||AssocGrpCpuLimit\n", "", "AssocGrpCpuLimit", False),
    ("Slurm", "7|PENDING||PartitionNodeLimit\n", "", "PartitionNodeLimit", False),
    ("Slurm", "7|PENDING||JobHeldUser\n", "", "JobHeldUser", False),
    ("Slurm", "7|PENDING||JobHeldAdmin\n", "", "JobHeldAdmin", True),
    ("Slurm", "7|RUNNING|n1|None\n", "", "", False),
    ("SlurmJobArray", "7_[1-9%2]|PENDING||JobArrayTaskLimit\n", "", "JobArrayTaskLimit", False),
    (
        "PBS",
        PBS.format("Q", "comment = Not Running: Job would conflict with reservation"),
        "",
        "Not Running: Job would conflict with reservation",
        False,
    ),
    (
        "PBS",
        PBS.format("Q", "comment = Can Never Run: Insufficient amount of resource: ncpus"),
        "",
        "Can Never Run: Insufficient amount of resource: ncpus",
        True,
    ),
    ("PBS", PBS.format("H", "Hold_Types = s\n    depend = afterok:6.srv@srv"), "", "waits for other jobs", False),
    ("PBS", PBS.format("H", "Hold_Types = u"), "", "held by the user", False),
    ("PBS", PBS.format("H", "Hold_Types = s"), "", "held by the system", True),
    ("PBS", PBS.format("H", f"Hold_Types = n\n    comment = {HELD}"), "", HELD, True),
    (
        "Torque",
        PBS.format("Q", "comment = Not Running: No available resources on nodes"),
        "",
        "Not Running: No available resources on nodes",
        False,
    ),
    ("SGE", SGE.format("qw"), QSTAT_J.format("scheduling info:  queue instance full"), "queue instance full", False),
    ("SGE", SGE.format("hqw"), "", "", False),
    ("SGE", SGE.format("Eqw"), "", "error state", True),
    (
        "SGE",
        SGE.format("Eqw"),
        QSTAT_J.format("error reason    1:   can't open file"),
        "error state: can't open file",
        True,
    ),
    (
        "LSF",
        "7|PEND|-|-|-\n",
        f"{LSF} New job is waiting for scheduling;\n",
        "New job is waiting for scheduling",
        False,
    ),
    ("LSF", "7|PEND|-|-|-\n", f"{LSF} Dependency condition invalid or never satisfied;\n", LOST, True),
]


@pytest.mark.parametrize(("kind", "listed", "more", "why", "never"), LISTED)
def test_why_a_job_waits(kind: str, listed: str, more: str, why: str, never: bool) -> None:
    found = waits(kind, "7.srv" if kind in ("PBS", "Torque") else "7", listed, more)
    assert (found.why, found.hopeless) == (why, never)


def test_a_squeue_that_tells_no_reason_is_understood_too() -> None:
    assert waits("Slurm", "7", "7|PENDING|\n") == Status(JobState.waiting, "PENDING")


# --- what is done about it --------------------------------------------------------------------------------------------------

NEVER = Status(JobState.waiting, "PENDING", why="DependencyNeverSatisfied", hopeless=True)


def placed() -> Progress:
    progress = Progress([("j", ["a"])])
    progress.apply(Intent("j", 0))
    progress.apply(Submitted("j", 0, "7"))
    return progress


def test_a_job_must_be_without_hope_several_times_in_a_row() -> None:
    progress = placed()
    for seen in (NEVER, Status(JobState.waiting, "PENDING", why="Priority"), *[NEVER] * (HOPELESS_POLLS - 1)):
        progress.on_listing({"7": seen}, 0)
        assert progress.without_hope() == []
    progress.on_listing({"7": NEVER}, 0)
    assert progress.without_hope() == [progress.jobs["j"]]


@pytest.mark.parametrize("told", [None, Reason.CANCELED, Reason.LAUNCH])
def test_one_that_can_never_start_ends_with_the_reason_and_is_not_placed_again(told: str | None) -> None:
    """Whatever the batch system says of a job that was taken out of the queue."""
    progress = placed()
    job = progress.jobs["j"]
    job.never = "DependencyNeverSatisfied"
    for now_s in range(3):
        progress.on_listing({} if told is None else {"7": Status(JobState.terminated, reason=told)}, now_s)
    ended = progress.judge(job, False, {}, "", 3)
    assert ended is not None
    assert (ended.reason, ended.again) == (f"{Reason.NEVER}: DependencyNeverSatisfied", False)
    progress.apply(ended)
    assert job.phase is Phase.FAILED


# --- arrays that are too large ----------------------------------------------------------------------------------------------


def array(tasks: int, **changes: Any) -> JobToPlace:
    names = tuple(f"{number:040d}" for number in range(tasks))
    some = tuple(Task(f"echo {number}", "a") for number in range(tasks))
    return JobToPlace("f" * 40, "", some, names, Resources(**changes), "/r/sub")


TOO_LARGE = Done(1, "", "sbatch: error: Batch job submission failed: Invalid job array specification\n")
LIMIT = ("show config", Done(0, "MaxArraySize            = 5\nMaxJobCount = 3\n", ""))


def test_an_array_that_is_too_large_is_several_which_start_together() -> None:
    numbers = iter(range(101, 109))

    class Cluster(Answers):
        def run(self, command: str, **options: Any) -> Done:
            if "--hold" in command:
                self.asked.append(command)
                return Done(0, f"{next(numbers)};east\n", "")
            return super().run(command, **options)

    context = Cluster(("esc=", TOO_LARGE), LIMIT, ("release", Done(0, "", "")))
    job = array(12)
    assert build_machine("SlurmJobArray").submit(context, job) == "101,102,103;east"
    script = "./." + "f" * 40 + ".sub"
    assert context.asked[2:] == [
        f"sbatch --parsable --hold --array=0-4 {script} 0",
        f"sbatch --parsable --hold --array=0-4 {script} 5",
        f"sbatch --parsable --hold --array=0-1 {script} 10",
        "scontrol -M east release 101 102 103",
    ]
    assert context.written == {f"/r/sub/{job.id_file}": b"101,102,103;east"}


def test_when_one_of_them_is_not_taken_none_starts() -> None:
    answers = iter([Done(0, "101\n", ""), Done(1, "", "sbatch: error: AssocMaxSubmitJobLimit\n")])

    class Cluster(Answers):
        def run(self, command: str, **options: Any) -> Done:
            return next(answers) if "--hold" in command else super().run(command, **options)

    context = Cluster(("esc=", TOO_LARGE), LIMIT, ("scancel", Done(0, "", "")))
    with pytest.raises(QueueFullError):
        build_machine("SlurmJobArray").submit(context, array(12))
    assert context.asked[-1] == "scancel -Q 101"
    assert context.written == {}


def test_a_site_without_arrays_refuses_with_a_remedy() -> None:
    with pytest.raises(SubmitRefusedError, match="batch_type Slurm"):
        build_machine("SlurmJobArray").submit(Answers(("esc=", TOO_LARGE), ("", Done(0, "", ""))), array(12))


def test_elements_that_are_left_keep_their_numbers() -> None:
    job = array(12, max_jobs=4, kwargs={"slurm_job_size": 2})
    assert slurm_array.arrays(job, 1000) == [(0, "0-5%4")]
    assert slurm_array.arrays(job, 4) == [(0, "0-3%2"), (4, "0-1%2")]


PARTS: list[tuple[str, Callable[[Listing], bool]]] = [
    ("101_1|COMPLETED|n|\n102_1|RUNNING|n|\n", lambda told: told["101,102"].state is JobState.running),
    ("101_1|COMPLETED|n|\n102_1|FAILED|n|\n", lambda told: told["101,102"].reason == Reason.PROGRAM),
    ("101_1|COMPLETED|n|\n102_1|COMP#TED|n|\n", lambda told: "101,102" in told.unclear),
    ("101_1|COMPLETED|n|\n", lambda told: "101,102" not in told and told.doubted == {"101,102"}),
]


@pytest.mark.parametrize(("listed", "holds"), PARTS)
def test_what_is_several_arrays_lives_as_long_as_one_of_them(listed: str, holds: Callable[[Listing], bool]) -> None:
    def asked(text: str) -> str:
        return "".join(line for line in listed.splitlines(keepends=True) if line[:3] in text)

    class Cluster(Answers):
        def run(self, command: str, **options: Any) -> Done:
            return answered(command, lambda part: Done(0, asked(part) if "squeue" in part else "", ""))[1]

    assert holds(build_machine("SlurmJobArray").query(Cluster(), ["101,102"]))


def test_all_of_them_are_ended() -> None:
    context = Answers(("", Done(0, "", "")))
    build_machine("SlurmJobArray").cancel(context, ["101,102;east", "7;east"])
    assert context.asked == ["scancel -M east -Q 101 102 7"]


def test_arrays_whose_launcher_died_before_it_let_them_go_are_found_and_go() -> None:
    rows = "".join(f"{number}_[0-4]|/|/r/sub/.{'f' * 40}.sub\n" for number in (101, 102))
    context = Answers(("%Z", Done(0, rows, "")), ("release", Done(0, "", "")))
    assert build_machine("SlurmJobArray").find(context, [array(12)]) == {"f" * 40: "101,102"}
    assert context.asked[-1] == "scontrol release 101 102"


# --- refusals ---------------------------------------------------------------------------------------------------------------

REFUSALS = [
    ("Slurm", "sbatch: error: Batch job submission failed: Rate limit exceeded, please retry later", MachineBusyError),
    ("Slurm", "sbatch: error: Batch job submission failed: MaxJobCount limit reached", QueueFullError),
    ("Slurm", "Batch job submission failed: Required partition not available (inactive or drain)", QueueFullError),
    ("Slurm", "sbatch: error: MaxSubmitJobsPerAccount\nJob violates accounting/QOS policy", QueueFullError),
    ("Slurm", "sbatch: error: MaxNodePerAccount\nJob violates accounting/QOS policy", SubmitRefusedError),
    ("Slurm", "sbatch: error: Invalid qos specification", SubmitRefusedError),
    ("PBS", "qsub: would exceed queue q's per-group limit of jobs in 'Q' state", QueueFullError),
    ("PBS", "qsub: Maximum number of jobs in 'Q' state for project p already in complex", QueueFullError),
    ("PBS", "qsub: Array job exceeds server or queue size limit", SubmitRefusedError),
    ("PBS", "qsub: Queue is not enabled", QueueFullError),
    ("PBS", "qsub: Server connection table full", MachineBusyError),
    ("PBS", "qsub: Unknown queue", SubmitRefusedError),
    ("Torque", "qsub: submit error (Server busy. Not available threads)", MachineBusyError),
    ("Torque", "qsub: Resource limit exceeds allowable", SubmitRefusedError),
    ("SGE", "Unable to run job: job rejected: Only 90 jobs are allowed per cluster.", QueueFullError),
    ("SGE", "job rejected: You try to submit a job with more than 75000 tasks", SubmitRefusedError),
    ("SGE", "Unable to run job: Rejected by jsv: h_rt exceeds the limit", SubmitRefusedError),
    ("LSF", "User <ann>: Pending job threshold reached. Retrying in 60 seconds...", QueueFullError),
    ("LSF", "q: Queue has been closed. Job not submitted.", QueueFullError),
    ("LSF", "Bad queue name. Job not submitted.", SubmitRefusedError),
    ("Fugaku", "[ERR.] PJM 0057 pjsub node=32 is greater than the upper limit (24).", SubmitRefusedError),
]


@pytest.mark.parametrize(("kind", "said", "error"), REFUSALS)
def test_refusals_are_told_apart(kind: str, said: str, error: type[Exception]) -> None:
    """Texts of the batch systems' own lists: slurm_errno.c, pbs_messages.c, pbs_error_db.h, msg_qmaster.h; LSF's of users."""
    with pytest.raises(error, match=re.escape(said.splitlines()[0][-30:])):
        build_machine(kind).submit(Answers(("", Done(1, "", said))), array(1))
