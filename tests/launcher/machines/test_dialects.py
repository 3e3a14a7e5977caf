"""What each batch system is told and what is read from it. Slurm's and Grid Engine's outputs are recorded from real ones
(../shared/testbed); those of PBS, Torque, LSF, JH UniScheduler and Fugaku were made by hand after collected facts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pilotfish.launcher.contexts.base import Context, Done
from pilotfish.launcher.description.resources import Resources
from pilotfish.launcher.description.schema import DescriptionError
from pilotfish.launcher.description.task import Task
from pilotfish.launcher.job.spec import JobToPlace
from pilotfish.launcher.job.states import JobState, Reason, Status
from pilotfish.launcher.machines import jh, lsf, pbs, sge, slurm, torque
from pilotfish.launcher.machines import pjm as fugaku
from pilotfish.launcher.machines.base import MachineBusyError, MaybeTakenError, QueueFullError, SubmitRefusedError
from pilotfish.launcher.machines.commands import BatchMachine
from pilotfish.launcher.machines.directives import job_name
from pilotfish.launcher.machines.registry import build_machine, names

JOB = JobToPlace("f" * 40, "my task!", (Task("true", "a"),), ("e" * 40,), Resources(2, 4, 1, "q"), "/r")
ALL = replace(
    Resources(2, 4, 0, ""),
    walltime_s=5400.5,
    account="acct",
    memory_mib=4096,
    dependency=["11", "12"],
    exclusive=True,
)


def header(kind: str, resources: Resources | None = None, **changes: Any) -> list[str]:
    machine = build_machine(kind)
    assert isinstance(machine, BatchMachine)
    job = replace(JOB, resources=resources or JOB.resources, **changes)
    return [line for line in machine.dialect.header(job) if line]


HEADERS = {
    "Slurm": ["--nodes 2", "--ntasks-per-node 4", "--gres=gpu:1", "--partition q", "--job-name my-task"],
    "PBS": ["-l select=2:ncpus=4:ngpus=1", "-j oe", "-q q", "-N my-task"],
    "Torque": ["-l nodes=2:ppn=4:gpus=1", "-j oe", "-q q", "-N my-task"],
    "SGE": ["-S /bin/bash", "-cwd", "-N my-task", "-pe mpi 4", "-q q"],
    "LSF": ["-e %J.err", "-o %J.out", "-n 8", "-R 'span[ptile=4]'", "-q q", "-J my-task"],
    "JH_UniScheduler": ["-e %J.err", "-o %J.out", "-n 8", "-R 'span[ptile=4]'", "-q q", "-gpgpu 1"],
    "Fugaku": ['-L "rscgrp=q"', '-L "node=2"', '--mpi "max-proc-per-node=4"'],
}
PREFIXES = {"Slurm": "#SBATCH", "SGE": "#$", "LSF": "#BSUB", "JH_UniScheduler": "#JSUB", "Fugaku": "#PJM"}


@pytest.mark.parametrize("kind", HEADERS)
def test_the_header(kind: str) -> None:
    assert header(kind) == [f"{PREFIXES.get(kind, '#PBS')} {line}" for line in HEADERS[kind]]


OURS = {
    "Slurm": "--time 01:30:01|--account acct|--mem 4096M|--exclusive|--dependency afterok:11:12",
    "PBS": "-l walltime=01:30:01|-A acct|-W depend=afterok:11:12|-l place=excl",
    "Torque": "-l walltime=01:30:01|-A acct|-W depend=afterok:11:12|-l mem=8192mb|-n",
    "SGE": "-l h_rt=01:30:01|-A acct|-l h_vmem=1024M|-l exclusive=true|-hold_jid 11,12",
    "LSF": "-W 91|-P acct|-R 'rusage[mem=4096MB]'|-x|-w 'done(11) && done(12)'",
}


@pytest.mark.parametrize("kind", OURS)
def test_walltime_account_memory_and_the_like(kind: str) -> None:
    lines = header(kind, ALL, name="")
    assert lines[-len(OURS[kind].split("|")) :] == [
        f"{PREFIXES.get(kind, '#PBS')} {line}" for line in OURS[kind].split("|")
    ]


@pytest.mark.parametrize(("kind", "key"), [("PBS", "qos"), ("SGE", "qos"), ("LSF", "qos"), ("Fugaku", "reservation")])
def test_what_a_batch_system_has_no_word_for_is_refused(kind: str, key: str) -> None:
    changes: dict[str, Any] = {key: "x"}
    with pytest.raises(DescriptionError, match=f"{kind} has nothing for '{key}'"):
        header(kind, replace(JOB.resources, **changes))


def test_gpu_lines() -> None:
    def lsf_line(**kwargs: Any) -> str:
        return header("LSF", replace(JOB.resources, kwargs=kwargs), name="")[-1]

    assert lsf_line(gpu_usage=True) == '#BSUB -R "select[ngpus >0] rusage[ngpus_excl_p=1]"'
    assert lsf_line(gpu_usage=True, gpu_new_syntax=True) == "#BSUB -gpu 'num=1:mode=shared:j_exclusive=yes'"
    assert "j_exclusive=no" in lsf_line(gpu_usage=True, gpu_new_syntax=True, gpu_exclusive=False)
    for kind in ("Slurm", "LSF", "JH_UniScheduler"):
        assert "#MINE" in header(kind, replace(JOB.resources, kwargs={"custom_gpu_line": "#MINE"}))


@pytest.mark.parametrize(
    ("name", "limit", "prefix", "shown"),
    [
        (None, 15, "j-", ""),
        ("a b", 15, "j-", "a-b"),
        ("!!", 128, "", "dp-ffffffff"),
        ("1st", 15, "j-", "j-1st"),
        ("a-very-long-name-indeed", 15, "j-", "a-very-88b0e5ab"),
        ("x", 0, "", ""),
    ],
)
def test_names_of_jobs(name: str | None, limit: int, prefix: str, shown: str) -> None:
    found = job_name(name, "f" * 40, limit, prefix)
    assert len(found) <= limit
    assert found == shown or (found.startswith("a-very") and len(found) == 15)


# --- states ---------------------------------------------------------------------------------------------------------------

ALIVE = {JobState.waiting, JobState.running, JobState.completing}


@pytest.mark.parametrize(
    ("table", "living", "ended"),
    [
        (
            slurm.STATES,
            "PENDING CONFIGURING RUNNING SUSPENDED COMPLETING STAGE_OUT RESIZING REQUEUED REQUEUE_HOLD REQUEUE_FED "
            "SPECIAL_EXIT SIGNALING STOPPED",
            "COMPLETED FAILED TIMEOUT OUT_OF_MEMORY NODE_FAIL BOOT_FAIL DEADLINE PREEMPTED CANCELLED",
        ),
        (pbs.STATES, "Q H W T R S U E B M", "F X"),
        (torque.STATES, "Q H W T R S E", "C"),
        (lsf.STATES, "PEND PROV PSUSP WAIT RUN USUSP SSUSP UNKWN", "DONE EXIT ZOMBI"),
        (jh.STATES, "PEND RUN PSUSP SSUSP USUSP", "DONE EXIT"),
        (fugaku.STATES, "ACC QUE RNA RNP RUN RNE RNO SPP SPD RSM HLD", "EXT CCL ERR RJT"),
    ],
)
def test_every_state_is_known(table: dict[str, tuple[JobState, str]], living: str, ended: str) -> None:
    assert all(table[word][0] in ALIVE for word in living.split())
    assert all(table[word][0].ended for word in ended.split())
    good = {word for word in ended.split() if table[word][0] is JobState.finished}
    assert all(bool(table[word][1]) != (word in good) for word in ended.split())


@pytest.mark.parametrize(
    ("letters", "state"),
    [
        ("qw", JobState.waiting),
        ("hqw", JobState.waiting),
        ("Eqw", JobState.waiting),
        ("t", JobState.running),
        ("r", JobState.running),
        ("Rr", JobState.running),
        ("s", JobState.running),
        ("S", JobState.running),
        ("T", JobState.running),
        ("hr", JobState.running),
        ("dr", JobState.completing),
        ("dt", JobState.completing),
        ("?", JobState.unknown),
    ],
)
def test_letters_of_grid_engine(letters: str, state: JobState) -> None:
    assert sge.state(letters) is state


def test_an_unknown_word_means_still_there() -> None:
    found = slurm.read_listing("7|NEW_WORD|n1\n")
    assert found["7"] == Status(JobState.unknown, "NEW_WORD", nodes="n1")
    assert not found["7"].state.ended


def test_slurms_listing_and_accounting() -> None:
    assert slurm.read_listing("34|RUNNING|node[1-4]\n40_1|PENDING|\n\nslurm_load_jobs error\n") == {
        "34": Status(JobState.running, "RUNNING", nodes="node[1-4]"),
        "40_1": Status(JobState.waiting, "PENDING"),
    }
    told = "5|COMPLETED|0:0|100|160|node1\n6|FAILED|3:0|1|2|node2\n7|TIMEOUT|0:0|1|2|node1\n8|CANCELLED by 0|0:15|1|2|node1\n"
    told += (
        "9|OUT_OF_MEMORY|0:125|1|2|node1\n10|NODE_FAIL|1:0|1|2|node1\n11|PENDING|0:0|Unknown|Unknown|None assigned\n"
    )
    found = slurm.read_history(told)
    assert found["5"] == Status(JobState.finished, "COMPLETED", "", 0, 100.0, 160.0, "node1")
    reasons = {name: status.reason for name, status in found.items()}
    assert reasons == {
        "5": "",
        "6": Reason.PROGRAM,
        "7": Reason.TIME,
        "8": Reason.CANCELED,
        "9": Reason.MEMORY,
        "10": Reason.NODE,
        "11": "",
    }
    assert (found["6"].exit_code, found["8"].exit_code, found["11"].state) == (3, 143, JobState.waiting)


def test_slurm_without_accounting() -> None:
    line = (
        "JobId=12 JobName=x UserId=root(0) JobState=OUT_OF_MEMORY Reason=OutOfMemory Dependency=(null) ExitCode=0:125 "
        "StartTime=1795238044 EndTime=1795238046 NodeList=node1 BatchHost=node1"
    )
    assert slurm.read_history(line)["12"] == Status(
        JobState.terminated, "OUT_OF_MEMORY", Reason.MEMORY, 137, 1795238044.0, 1795238046.0, "node1"
    )
    array = "JobId=14 ArrayJobId=13 ArrayTaskId=1 JobState=COMPLETED ExitCode=0:0 StartTime=1 EndTime=2 NodeList=n"
    assert list(slurm.read_history(array)) == ["13_1"]


QSTAT = """Job Id: 123.server
    Job_Name = x
    job_state = F
    exec_host = node1/0*4+node2/0*4
    Exit_status = {code}
    stime = Fri Nov 20 21:37:37 2026
    Variable_List = PBS_O_HOME=/home/ann,PBS_O_LANG=C,
\tPBS_O_PATH=/usr/bin
    comment = Job run
Job Id: 124.server
    job_state = R
"""


@pytest.mark.parametrize(
    ("code", "state", "reason", "number"),
    [
        (0, JobState.finished, "", 0),
        (3, JobState.terminated, Reason.PROGRAM, 3),
        (271, JobState.terminated, Reason.CANCELED, 143),
        (-29, JobState.terminated, Reason.TIME, -29),
        (-27, JobState.terminated, Reason.MEMORY, -27),
    ],
)
def test_pbs(code: int, state: JobState, reason: str, number: int) -> None:
    found = pbs.read_listing(QSTAT.format(code=code))
    assert (found["123.server"].state, found["123.server"].reason, found["123.server"].exit_code) == (
        state,
        reason,
        number,
    )
    assert found["123.server"].nodes == "node1,node2"
    assert found["123.server"].start_s is not None
    assert found["124.server"].state is JobState.running


def test_torque() -> None:
    told = "Job Id: 9.t\n    job_state = C\n    exit_status = -11\n    start_time = Fri Nov 20 21:37:37 2026\n"
    found = torque.read_listing(told)["9.t"]
    assert (found.state, found.reason) == (JobState.terminated, Reason.TIME)


def test_torque_as_slurm_speaks_it() -> None:
    """`qstat -f` of slurm-wlm-torque 22.05: a tab before each attribute, no exit status."""
    told = "Job Id:\t6\n\tJob_Name = a\n\tjob_state = R\n\tqueue = debug\n\texec_host = node1/1+node2/1\n\n"
    found = torque.read_listing(told + told.replace("6", "7").replace("= R", "= C"))
    assert {name: (status.state, status.nodes) for name, status in found.items()} == {
        "6": (JobState.running, "node1,node2"),
        "7": (JobState.finished, "node1,node2"),
    }


def test_grid_engine() -> None:
    xml = """<?xml version='1.0'?><job_info><queue_info><job_list state="running"><JB_job_number>55</JB_job_number>
    <state>r</state><JAT_start_time>2026-11-20T21:37:37</JAT_start_time><queue_name>all.q@node3</queue_name></job_list>
    </queue_info><job_info><job_list state="pending"><JB_job_number>60</JB_job_number><state>Eqw</state></job_list>
    </job_info></job_info>"""
    found = sge.read_listing(xml)
    assert {name: status.state for name, status in found.items()} == {"55": JobState.running, "60": JobState.waiting}
    assert sge.read_listing("error: commlib") == {}
    qacct = """==============================================================
qname        all.q
hostname     node1
jobnumber    {number}
start_time   Fri Nov 20 21:37:37 2026
end_time     Fri Nov 20 21:37:47 2026
failed       {failed}
exit_status  {code}
"""
    told = "".join(
        qacct.format(number=number, failed=failed, code=code)
        for number, failed, code in [
            (1, "0", "0"),
            (2, "0", "3"),
            (3, "37 : qmaster enforced h_rt limit", "137"),
            (4, "100 : assumedly after job", "137"),
            (5, "26 : opening output file", "0"),
        ]
    )
    reasons = {name: status.reason for name, status in sge.read_history(told).items()}
    assert reasons == {"1": "", "2": Reason.PROGRAM, "3": Reason.TIME, "4": Reason.CANCELED, "5": Reason.LAUNCH}


def test_lsf() -> None:
    told = "1|RUN|-|-|h1:h2\n2|DONE|-|-|h1\n3|EXIT|7|-|h1\n4|EXIT|140|TERM_RUNLIMIT: job killed|h1\n"
    told += "5|EXIT|137|TERM_MEMLIMIT: job killed|h1\n"
    found = lsf.read_listing(told)
    assert [found[name].reason for name in "12345"] == ["", "", Reason.PROGRAM, Reason.TIME, Reason.MEMORY]
    assert (found["2"].exit_code, found["3"].exit_code, found["1"].nodes) == (0, 7, "h1:h2")
    bhist = "\nJob <21>, User <ann>, Command <x>\nFri: Done successfully. The CPU time used is 1 seconds;\n"
    bhist += "----\nJob <22>, User <ann>\nFri: Exited with exit code 3. The CPU time used\n"
    assert {name: status.exit_code for name, status in lsf.read_history(bhist).items()} == {"21": 0, "22": 3}


def test_tables_with_headers_and_nothing_below() -> None:
    assert jh.read_listing("JOBID USER STAT QUEUE\n") == {}
    assert jh.read_listing("JOBID USER STAT QUEUE\n7 ann RUN q\n")["7"].state is JobState.running
    assert fugaku.read("JOB_ID JOB_NAME MD ST USER\n99 x NM RUN ann\n")["99"].state is JobState.running
    assert fugaku.read("") == {}


# --- the flow -------------------------------------------------------------------------------------------------------------


class Scripted(Context):
    """Answers commands from a list, in their order; keeps what it was asked."""

    kind = "Scripted"

    def __init__(self, *answers: Done) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def run(self, command: str, **options: Any) -> Done:
        self.asked.append(command)
        return self.answers.pop(0)

    def _unused(self, *words: Any, **options: Any) -> Any:
        raise AssertionError

    root_for = read = write = list_files = put = get = remove = _unused


IDS = {
    "Slurm": ("991;cluster\n", "991;cluster"),
    "PBS": ("123.server\n", "123.server"),
    "Torque": ("123.server.domain\n", "123.server.domain"),
    "SGE": ("42\n", "42"),
    "LSF": ("banner\nJob <77> is submitted to queue <normal>.\n", "77"),
    "JH_UniScheduler": ("Job <77> is submitted to default queue <q>.\n", "77"),
    "Fugaku": ("[INFO] PJM 0000 pjsub Job 1001 submitted.\n", "1001"),
}


@pytest.mark.parametrize("kind", IDS)
def test_the_id_is_found_in_what_submit_prints(kind: str) -> None:
    printed, job_id = IDS[kind]
    context = Scripted(Done(0, printed, ""))
    assert build_machine(kind).submit(context, JOB) == job_id
    assert JOB.id_file in context.asked[0]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("sbatch: error: Batch job submission failed: Invalid partition name specified", SubmitRefusedError),
        ("Job violates accounting/QOS policy (job submit limit)", QueueFullError),
        ("Socket timed out on send/recv operation", MachineBusyError),
    ],
)
def test_why_a_job_was_not_taken(error: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        build_machine("Slurm").submit(Scripted(Done(1, "", error)), JOB)


def test_an_answer_without_an_id_may_be_one_of_a_job_that_was_taken_and_is_quoted() -> None:
    nothing_listed = Done(0, "", "")
    with pytest.raises(MaybeTakenError, match="no line of what it printed is an id: 'hello'"):
        build_machine("Slurm").submit(Scripted(Done(0, "hello\n", ""), nothing_listed), JOB)


def test_many_jobs_are_asked_about_with_one_command_and_only_the_others_in_the_accounting() -> None:
    ids = [str(number) for number in range(100, 300)]
    listed = "".join(f"{name}|RUNNING|n1\n" for name in ids[:-2])
    alone = Done(0, "\n@pilotfish@1\n", "@pilotfish@\nslurm_load_jobs error: Invalid job id specified\n")
    context = Scripted(Done(0, listed, ""), Done(0, "299|COMPLETED|0:0|1|2|n1\n", ""), alone)
    found = build_machine("Slurm").query(context, ids)
    assert len(context.asked) == 3
    assert "-j 298,299 " in context.asked[1]
    assert (len(found), found["299"].state) == (199, JobState.finished)
    assert "298" not in found


def test_ids_are_compared_exactly_but_for_the_servers_name() -> None:
    context = Scripted(
        Done(0, "Job Id: 4242.srv\n    job_state = R\nJob Id: 42.srv.long.name\n    job_state = Q\n", "")
    )
    assert {name: status.native for name, status in build_machine("PBS").query(context, ["42.srv"]).items()} == {
        "42.srv": "Q"
    }


def test_nothing_known_is_not_an_error_but_no_answer_is() -> None:
    machine = build_machine("Slurm")
    unknown = Done(1, "", "slurm_load_jobs error: Invalid job id specified")
    assert machine.query(Scripted(unknown, Done(0, "", "")), ["1"]) == {}
    with pytest.raises(MachineBusyError):
        machine.query(Scripted(Done(1, "", "slurm_load_jobs error: Unable to contact slurm controller")), ["1"])


@pytest.mark.parametrize("kind", names())
def test_every_machine_is_built_and_renders_the_same_twice(kind: str) -> None:
    machine = build_machine(kind)
    job = replace(JOB, resources=Resources(group_size=1))
    assert machine.kind == kind
    assert machine.script(job) == machine.script(job)
    assert machine.script(job)[JOB.script_name].startswith("#!/bin/bash")
