"""What batch systems tell is read in three values: where a job is, that it is gone, or that nothing is known now.

A job that is taken for gone is placed again, so "gone" is what must never be read out of an answer that was cut off, garbled,
mixed with the words of others, or given by somebody who does not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from answers import NO_JOBS, SAYS_GONE, answered, garbled, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.launcher.contexts.base import Context, Done
from pilotfish.launcher.description.resources import Resources
from pilotfish.launcher.description.task import Task
from pilotfish.launcher.job.spec import JobToPlace
from pilotfish.launcher.job.states import JobState, Listing, Reason
from pilotfish.launcher.machines.base import MachineBusyError, QueueFullError, SubmitRefusedError
from pilotfish.launcher.machines.registry import build_machine
from pilotfish.pilot.model.errors import PilotfishError

JOB = JobToPlace("f" * 40, "", (Task("true", "a"),), ("e" * 40,), Resources(1, 1, 0, "q"), "/r/sub")
KINDS = ("Slurm", "SlurmJobArray", "PBS", "Torque", "SGE", "LSF", "JH_UniScheduler", "Fugaku", "Shell")


class Programs(Context):
    """A machine on which every program gives what `answer(command)` says; commands that are run together get one each."""

    kind = "Programs"

    def __init__(self, answer: Callable[[str], Done]) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def run(self, command: str, **options: Any) -> Done:
        parts, done = answered(command, self.answer)
        self.asked += parts
        return done

    def _unused(self, *words: Any, **options: Any) -> Any:
        raise AssertionError

    root_for = read = write = list_files = put = get = remove = _unused


def table(*answers: tuple[str, Done]) -> Programs:
    """Commands that contain these words are answered so; the first that fits."""

    def answer(command: str) -> Done:
        return next(done for words, done in answers if words in command)

    return Programs(answer)


def sbatch(out: str, err: str = "", code: int = 0, **more: str) -> str:
    others = [(words, Done(0, text, "")) for words, text in more.items()]
    return build_machine("Slurm").submit(table(("sbatch", Done(code, out, err)), *others, ("", Done(0, "", ""))), JOB)


# --- ids ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printed", "job_id"),
    [
        ("101\n", "101"),
        ("101;east\n", "101;east"),
        ("67109865;c-1.x\n", "67109865;c-1.x"),
        ("Submitted batch job 101\n", "101"),
        ("Submitted batch job 101 on cluster east\n", "101;east"),
        ("Remaining hours:\n1200\n\nSubmitted batch job 101\nsee you\n2026\n", "101"),
        ("Remaining hours:\n1200\n\n101\n", "101"),
        ("\x1b[0;32m101\x1b[0m\r\n", "101"),
        ("1200\n101;east\nbye\n", "101;east"),
    ],
)
def test_the_id_of_a_slurm_job_keeps_its_cluster_whatever_a_wrapper_prints(printed: str, job_id: str) -> None:
    assert sbatch(printed) == job_id


@pytest.mark.parametrize(
    ("kind", "printed", "job_id"),
    [
        ("PBS", "1200\n281.srv\n", "281.srv"),
        ("PBS", "281.srv.long.name\n1200\n", "281.srv.long.name"),
        ("PBS", "qsub: waiting\n281[].srv\n", "281[].srv"),
        ("PBS", "123.srv@host\n", "123.srv@host"),
        ("Torque", "281.srv\n", "281.srv"),
        ("SGE", "4711.1-10:1\n", "4711"),
        ("SGE", 'Your job 42 (".f.sub") has been submitted\n100\n', "42"),
        ("SGE", 'Your job-array 43.1-3:1 ("x") has been submitted\n', "43"),
        ("LSF", "*** 100 hours ***\n100\nJob <7> is submitted to queue <q>.\n8\n", "7"),
        ("Fugaku", "[INFO] PJM 0000 pjsub Job 9 submitted.\n10\n", "9"),
    ],
)
def test_the_id_is_the_last_line_that_can_be_one(kind: str, printed: str, job_id: str) -> None:
    context = table(("sub ", Done(0, printed, "")), ("", Done(0, "", "")))
    assert build_machine(kind).submit(context, JOB) == job_id


def test_where_several_lines_could_be_the_id_the_batch_system_tells_which_it_is() -> None:
    listed = f"1200|/home/ann|other.sh\n1201|/somewhere/sub|./{JOB.script_name}\n"
    assert sbatch("1201\nhours left:\n1200\n", squeue=listed) == "1201"


@pytest.mark.parametrize("printed", ["", "Thank you!\n", "sbatch: error: nothing\n"])
def test_a_submit_that_ends_well_without_an_id_is_never_a_refusal(printed: str) -> None:
    """The job is looked for by its script; where it is not found it may have been taken all the same."""
    listed = f"CLUSTER: east\n101|/|/r/sub/{JOB.script_name}\n"
    assert sbatch(printed, squeue=listed) == "101;east"
    with pytest.raises(MachineBusyError):
        sbatch(printed)


def test_jobs_of_pbs_and_grid_engine_are_found_by_their_scripts_too() -> None:
    block = f"Job Id: 7.srv\n    job_state = Q\n    Submit_arguments = ./{JOB.script_name}\n"
    block += "    Variable_List = A=1,PBS_O_WORKDIR=/r/sub\n"
    torque = block.replace("Submit_arguments", "submit_args")
    sge = f"====\njob_number:        7\ncwd:           /r/sub\nscript_file:         ./{JOB.script_name}\n"
    for kind, text, name in (("PBS", block, "7.srv"), ("Torque", torque, "7.srv"), ("SGE", sge, "7")):
        assert build_machine(kind).find(table(("qstat", Done(0, text, ""))), [JOB]) == {JOB.hash: name}
        assert build_machine(kind).find(table(("qstat", Done(0, text.replace("/r/sub", "/r/x"), ""))), [JOB]) == {}
    with pytest.raises(MachineBusyError):
        build_machine("PBS").find(table(("qstat", Done(0, "Jxb Id: 7.srv\n", ""))), [JOB])


# --- clusters -------------------------------------------------------------------------------------------------------------


def test_jobs_of_other_clusters_are_asked_for_and_ended_there() -> None:
    """The same number on two clusters is two jobs."""

    def answer(command: str) -> Done:
        if "scancel" in command:
            return Done(0, "", "")
        return Done(
            0, "CLUSTER: east\n101|RUNNING|n1\n" if "-M east" in command else "101|PENDING|\n102|RUNNING|n2\n", ""
        )

    context = Programs(answer)
    found = build_machine("Slurm").query(context, ["101", "101;east", "102"])
    assert {name: status.native for name, status in found.items()} == {
        "101": "PENDING",
        "102": "RUNNING",
        "101;east": "RUNNING",
    }
    context.asked.clear()
    build_machine("SlurmJobArray").cancel(context, ["101;east", "102"])
    assert context.asked == ["scancel -M east -Q 101", "scancel -Q 102"]


def test_history_is_asked_where_the_job_was() -> None:
    gone = Done(1, "", "slurm_load_jobs error: Invalid job id specified")
    context = table(
        ("squeue", gone), ("sacct -M east", Done(0, "101_4|FAILED|3:0|1|2|n\n101_5|COMPLETED|0:0|1|2|n\n", ""))
    )
    found = build_machine("SlurmJobArray").query(context, ["101;east"])
    assert (found["101;east"].state, found["101;east"].exit_code) == (JobState.terminated, 3)
    assert "scontrol -M east -o show job $id" in context.asked[-1]


def test_a_job_that_a_federation_gave_to_another_cluster_has_not_ended() -> None:
    """Its own cluster calls it REVOKED; where the others are seen too they tell where it is."""
    assert ask("Slurm", "101", listed=Done(0, "101|REVOKED||None\n", ""))["101"].state is JobState.unknown
    both = Done(0, "101|REVOKED||None\n101|RUNNING|e7|None\n", "")
    assert ask("Slurm", "101", listed=both)["101"].state is JobState.running
    told = table(("sacct", Done(0, "101|COMPLETED|0:0|1|2|e7\n", "")), ("squeue", Done(0, "101|REVOKED||None\n", "")))
    assert build_machine("Slurm").query(told, ["101"])["101"].state is JobState.finished


# --- jobs of several parts ------------------------------------------------------------------------------------------------

PARTS: list[tuple[str, str, str, str, JobState]] = [
    ("Slurm", "101", "101+0|COMPLETED|n1\n101+1|RUNNING|n2\n", "", JobState.running),
    ("Slurm", "101", "101+0|PENDING|\n101+1|PENDING|\n", "", JobState.waiting),
    (
        "Slurm",
        "101",
        "",
        "101+0|COMPLETED|0:0|1|2|n1\n101+0.batch|FAILED|1:0|1|2|n1\n101+1|COMPLETED|0:0|1|2|n2\n",
        JobState.finished,
    ),
    ("Slurm", "101", "", "101+0|COMPLETED|0:0|1|2|n1\n101+1|FAILED|1:0|1|2|n2\n", JobState.terminated),
    ("Slurm", "101", "101_0|COMPLETED|n1\n101_1|RUNNING|n1\n", "", JobState.running),
    ("SlurmJobArray", "101", "101_[3-7%2]|PENDING|\n101_1|FAILED|n1\n", "", JobState.waiting),
    (
        "Slurm",
        "101",
        "",
        "JobId=101 HetJobId=101 HetJobOffset=0 JobState=COMPLETED ExitCode=0:0\n"
        "JobId=102 HetJobId=101 HetJobOffset=1 JobState=RUNNING ExitCode=0:0\n",
        JobState.running,
    ),
    (
        "PBS",
        "7[].srv",
        "Job Id: 7[1].srv\n    job_state = X\nJob Id: 7[2].srv\n    job_state = R\n",
        "",
        JobState.running,
    ),
    ("LSF", "7", "7[1]|DONE|-|-|h\n7[2]|RUN|-|-|h\n", "", JobState.running),
]


@pytest.mark.parametrize(("kind", "job_id", "listed", "told", "state"), PARTS)
def test_the_parts_of_a_job_are_that_job(kind: str, job_id: str, listed: str, told: str, state: JobState) -> None:
    done = Done(0, listed, "") if listed else Done(1, "", "Invalid job id specified")
    context = table(("sacct", Done(0, told, "")), ("bhist", Done(0, "", "")), ("", done))
    assert build_machine(kind).query(context, [job_id])[job_id].state is state


# --- gone, or not known? --------------------------------------------------------------------------------------------------


def ask(kind: str, *ids: str, listed: Done, alone: Done | None = None) -> Listing:
    """With an accounting that knows nothing."""

    def answer(command: str) -> Done:
        if re.search("sacct|qacct|bhist|pjstat -H", command):
            return Done(0, "", "")
        return (
            alone
            if alone is not None and ("qstat -j" in command or (len(ids) > 1 and ids[1] not in command))
            else listed
        )

    return build_machine(kind).query(Programs(answer), ids)


@pytest.mark.parametrize("kind", SAYS_GONE)
def test_a_job_is_gone_when_the_batch_system_says_that_it_does_not_know_it(kind: str) -> None:
    said = Done(1, "", f"{SAYS_GONE[kind]}\n")
    assert ask(kind, "101", listed=Done(0, NO_JOBS[kind], "") if kind in NO_JOBS else said, alone=said) == {}
    on_stdout = Done(1, f"{SAYS_GONE[kind]}\n", "")
    found = ask(kind, "101", listed=Done(0, NO_JOBS[kind], "") if kind in NO_JOBS else on_stdout, alone=on_stdout)
    assert (found, found.doubted) == ({}, set())


@pytest.mark.parametrize("kind", SAYS_GONE)
def test_a_job_that_is_only_left_out_is_doubted(kind: str) -> None:
    found = ask(kind, "101", listed=Done(0, NO_JOBS.get(kind, ""), ""), alone=Done(0, "", ""))
    assert (found, found.doubted) == ({}, {"101"})


@pytest.mark.parametrize("kind", SAYS_GONE)
@pytest.mark.parametrize(
    "answer",
    [
        Done(1, "", "something that nobody has heard of"),
        Done(0, "Maintenance on Monday\n", ""),
        Done(0, "1?1|RUNN\n", ""),
        Done(0, "<?xml version='1.0'?>\n<job_info><queue_info><job_list>", ""),
        Done(255, "", ""),
    ],
)
def test_what_is_not_understood_says_nothing_of_a_job(kind: str, answer: Done) -> None:
    try:
        found = ask(kind, "101", listed=answer, alone=answer)
    except MachineBusyError:
        return
    assert found["101"].state is JobState.unknown
    assert found.unclear == {"101"}


def test_an_array_waits_for_a_controller_that_is_away_as_any_job_does() -> None:
    away = Done(1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    with pytest.raises(MachineBusyError, match="Unable to contact"):
        ask("SlurmJobArray", "101", listed=away)
    with pytest.raises(MachineBusyError, match="Unable to contact"):
        ask("SlurmJobArray", "101", listed=Done(0, "", away.err))  # a wrapper that loses the exit code


def test_words_in_an_answer_do_not_hide_the_rows_in_it() -> None:
    found = ask("Slurm", "101", "102", listed=Done(0, "Hello!\n101|RUNNING|n1\n102|RUNNING|n1\n", ""))
    assert {status.state for status in found.values()} == {JobState.running}
    row = "<job_list><JB_job_number>101</JB_job_number><state>r</state></job_list>"
    wrapped = f"Warning: maintenance\n{NO_JOBS['SGE'].replace('<queue_info>', f'<queue_info>{row}')}"
    assert ask("SGE", "101", listed=Done(0, wrapped, ""))["101"].state is JobState.running
    control = wrapped.replace("<state>", "<JB_name>a\x01b & c</JB_name><state>")
    assert ask("SGE", "101", listed=Done(0, control, ""))["101"].state is JobState.running


def test_attributes_below_a_garbled_head_are_not_those_of_the_job_above() -> None:
    text = "Job Id: 1.s\n    job_state = R\nJ?b Id: 2.s\n    job_state = F\n    Exit_status = 1\n"
    found = ask("PBS", "1.s", "2.s", listed=Done(0, text, ""), alone=Done(1, "", "cannot connect to server"))
    assert (found["1.s"].state, found["2.s"].state) == (JobState.running, JobState.unknown)


def test_a_pbs_without_job_history_is_asked_without_it() -> None:
    no_history = Done(1, "", "qstat: PBS is not configured to maintain job history")
    gone = Done(153, "", "qstat: Unknown Job Id 281.srv")
    assert build_machine("PBS").query(table(("-x", no_history), ("qstat -f 281.srv", gone)), ["281.srv"]) == {}
    alive = Done(0, "Job Id: 281.srv\n    job_state = R\n", "")
    found = build_machine("PBS").query(table(("-x", no_history), ("qstat -f 281.srv", alive)), ["281.srv"])
    assert found["281.srv"].state is JobState.running


def test_accounting_that_lags_does_not_bring_a_job_back() -> None:
    context = table(("squeue", Done(0, "7|FAILED|n1\n", "")), ("sacct", Done(0, "7|RUNNING|0:0|1|Unknown|n1\n", "")))
    found = build_machine("Slurm").query(context, ["7"])["7"]
    assert (found.state, found.reason) == (JobState.terminated, Reason.PROGRAM)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "Shell"])
def test_a_cancel_that_failed_is_not_taken_for_one_that_worked(kind: str) -> None:
    with pytest.raises(MachineBusyError):
        build_machine(kind).cancel(Programs(lambda command: Done(8, "", "error: Connection refused")), ["101"])
    build_machine(kind).cancel(Programs(lambda command: Done(1, "", SAYS_GONE[kind])), ["101"])


# --- whatever happens to an answer -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(random=st.randoms(use_true_random=False), count=st.integers(1, 4))
def test_no_garbled_answer_makes_a_running_job_be_gone(kind: str, random: Random, count: int) -> None:
    """It is known to run, or it is not known, or it is doubted; it has not ended, and it is not said to be gone."""
    ids = [f"10{number}:9" if kind == "Shell" else str(101 + number) for number in range(count)]

    def answer(command: str) -> Done:
        if re.search("sacct|qacct|bhist|pjstat -H", command):
            return Done(0, "", "")
        asked = [name for name in ids if name in command]
        if "qstat -j" in command:
            return garbled(f"====\njob_number:                 {asked[0]}\nowner:     ann\n", random)
        text = rows(kind, asked or ids)
        return garbled(text, random) if random.random() < 0.8 else Done(0, text, "")

    try:
        found = build_machine(kind).query(Programs(answer), ids)
    except PilotfishError:
        return
    for name in ids:
        assert name in found or name in found.doubted
        assert name not in found or not found[name].state.ended


# --- limits ---------------------------------------------------------------------------------------------------------------

POLICY = (
    "sbatch: error: Batch job submission failed: "
    "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
)
FULL = [
    ("Slurm", f"sbatch: error: AssocMaxSubmitJobLimit\n{POLICY}"),
    ("Slurm", f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{POLICY}"),
    ("Slurm", f"sbatch: error: AssocGrpSubmitJobsLimit\n{POLICY}"),
    ("Slurm", "    [*] Too many simultaneous jobs in queue.\n        --> Max job limits for normal =  50 jobs"),
    ("PBS", "qsub: would exceed queue generic's per-user limit"),
    ("PBS", "qsub: would exceed complex's per-user limit"),
    ("PBS", "qsub: Maximum number of jobs for user ann already in queue batch"),
    (
        "Torque",
        "qsub: submit error (Maximum number of jobs already in queue for user "
        "MSG=total number of current user's jobs exceeds the queue limit: user x, queue batch)",
    ),
    ("SGE", "Unable to run job: job rejected: Only 2000 jobs are allowed per user (current job count: 2000)."),
    ("SGE", "Unable to run job: job rejected: only 2 jobs are allowed per user (current job count: 2)"),
    ("LSF", "User <ann>: Job limit exceeded. Job not submitted."),
]
NEVER = [
    ("Slurm", f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}"),
    ("Slurm", f"sbatch: error: AssocMaxWallDurationPerJobLimit\n{POLICY}"),
    ("Slurm", f"sbatch: error: QOSMaxNodePerJobLimit\n{POLICY}"),
    ("Slurm", f"sbatch: error: QOSMaxCpuPerUserLimit\n{POLICY}"),
    ("Slurm", f"sbatch: error: QOSMinGRES\n{POLICY}"),
    ("Slurm", f"sbatch: error: QOSMaxGRESPerUser\n{POLICY}"),
    ("PBS", "qsub: Job violates queue and/or server resource limits"),
    ("PBS", "qsub: Job exceeds queue and/or server resource limits"),
    ("Torque", "qsub: Job exceeds queue resource limits MSG=cannot satisfy queue max walltime requirement"),
    (
        "Torque",
        "qsub: submit error (Job exceeds queue resource limits MSG=cannot satisfy queue max walltime requirement)",
    ),
    ("LSF", "RUNLIMIT: Cannot exceed queue's hard limit(s). Job not submitted."),
]


@pytest.mark.parametrize(("kind", "said"), FULL)
def test_a_limit_of_jobs_is_waited_for(kind: str, said: str) -> None:
    with pytest.raises(QueueFullError):
        build_machine(kind).submit(table(("", Done(1, "", said))), JOB)


@pytest.mark.parametrize(("kind", "said"), NEVER)
def test_a_job_that_can_never_run_is_refused(kind: str, said: str) -> None:
    with pytest.raises(SubmitRefusedError):
        build_machine(kind).submit(table(("", Done(1, "", said))), JOB)
