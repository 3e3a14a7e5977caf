"""The queue as each batch system lists it, and which batch system is here."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.launcher.contexts.base import Done
from pilotfish.launcher.contexts.lazy_local import LazyLocalContext
from pilotfish.launcher.contexts.shell import Text
from pilotfish.launcher.machines.dialect import QueueRow
from pilotfish.launcher.submission.queue_view import QueueError, rows
from pilotfish.launcher.submission.queues import get_cluster_environment

PBS = """\
Job Id: 281.srv
    Job_Name = sim
    Job_Owner = ann@login
    job_state = R
    queue = workq
    exec_host = n1/0*4+n2/0*4
    Resource_List.ncpus = 8
    Variable_List = PBS_O_HOME=/home/ann,PBS_O_WORKDIR=/home/ann/
\tlong
Job Id: 282[].srv
    Job_Name = x
    Job_Owner = bob@login
    job_state = H
    queue = long
"""
SGE = """\
<?xml version='1.0'?>
<job_info><queue_info><job_list state="running">
  <JB_job_number>7</JB_job_number><JB_name>sim</JB_name><JB_owner>ann</JB_owner><state>r</state>
  <queue_name>all.q@n1</queue_name><slots>4</slots>
</job_list></queue_info><job_info><job_list state="pending">
  <JB_job_number>8</JB_job_number><JB_name>x</JB_name><JB_owner>bob</JB_owner><state>qw</state>
  <queue_name></queue_name><slots>1</slots>
</job_list></job_info></job_info>
"""
LSF = """\
7|ann|RUN|normal|4|-|2*n1:2*n2|sim|two
8|bob|PEND|long|1|-|-|x
9|bob|EXIT|long|1|3|n1|bad
"""
JH = """\
JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME
7       ann     RUN   normal     login       n1          sim        Nov 20 10:00
                                             n2
8       bob     PEND  long       login                   x          Nov 20 10:01
"""
PJM = """\
  ACCEPT QUEUED  STGIN  READY RUNING RUNOUT STGOUT   HOLD  ERROR   TOTAL
       0      1      0      0      1      0      0      0      0       2
JOB_ID     JOB_NAME   MD ST  USER     START_DATE      ELAPSE_LIM NODE_REQUIRE
7          sim        NM RUN ann      11/20 10:00:00  0001:00:00 2
8          x          NM QUE bob      --/-- --:--:--  0001:00:00 1
"""
SLURM = "7|sim|ann|q|RUNNING|n1|1|4\n8|x|bob|q|PENDING||1|1\n"


class Machine(LazyLocalContext):
    """On which every command prints the same, but those of accounting, which is not there."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(Path.cwd(), None, {})
        self.answer = Done(code, text, "cannot connect" if code else "")
        self.asked: list[str] = []

    def run(
        self, command: Text, *, cwd: str | None = None, stdin: bytes = b"", timeout_s: float = 60.0, once: bool = False
    ) -> Done:
        self.asked.append(command)
        return Done(127, "", "sacct: not found") if "sacct" in command else self.answer


def two(*first: str | int, queue: str = "", other: str = "") -> list[QueueRow]:
    nodes, cores = str(first[0]), int(first[1])
    return [
        QueueRow("7", "sim", "ann", queue, "running", nodes, cores),
        QueueRow("8", "x", "bob", other, "pending", "", int(bool(cores))),
    ]


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        ("Slurm", SLURM, two("n1", 4, queue="q", other="q")),
        ("SGE", SGE, two("n1", 4, queue="all.q")),
        ("JH_UniScheduler", JH, two("n1", 0, queue="normal", other="long")),
        ("Fugaku", PJM, two("", 0)),
        (
            "PBS",
            PBS,
            [
                QueueRow("281", "sim", "ann", "workq", "running", "n1,n2", 8),
                QueueRow("282[]", "x", "bob", "long", "pending", "", 0),
            ],
        ),
        (
            "LSF",
            LSF,
            [
                QueueRow("7", "sim|two", "ann", "normal", "running", "n1,n2", 4),
                QueueRow("8", "x", "bob", "long", "pending", "", 1),
                QueueRow("9", "bad", "bob", "long", "failed", "n1", 1, 3),
            ],
        ),
    ],
)
def test_a_queue_is_read(kind: str, text: str, found: list[QueueRow]) -> None:
    assert rows(Machine(text), kind) == found
    assert rows(Machine(""), kind) == []


@pytest.mark.parametrize("kind", ["Slurm", "SGE", "PBS", "Torque", "LSF"])
def test_a_batch_system_that_does_not_answer_is_an_error(kind: str) -> None:
    with pytest.raises(QueueError, match="cannot connect"):
        rows(Machine("", code=1), kind)


def test_half_a_document_and_no_queue_are_errors() -> None:
    with pytest.raises(QueueError, match="qstat: what it prints cannot be read"):
        rows(Machine(SGE[:200]), "SGE")
    with pytest.raises(QueueError, match="machine: Shell has no queue that can be listed; `pilotfish job list`"):
        rows(Machine(""), "Shell")


def test_users_names_are_quoted_for_the_shell() -> None:
    machine = Machine(SGE)
    rows(machine, "SGE")
    assert machine.asked == ["LC_ALL=C qstat -u '*' -xml"]


@pytest.mark.parametrize(
    ("programs", "qstat", "kind"),
    [
        (("qsub", "qstat"), 'case $1 in --version) echo "pbs_version = 22.05";; esac', "pbs"),
        (("qsub", "qstat"), 'case $1 in -help) echo "SGE 8.1.9"; exit 1;; -u) ;; *) exit 1;; esac', "sge"),
        (("qsub", "qstat"), 'case $1 in -x) exit 0;; *) echo "unknown option" >&2; exit 1;; esac', "torque"),
        (("bsub", "bjobs"), "", "lsf"),
        ((), "", "local"),
    ],
)
def test_commands_of_one_name_are_told_apart(
    wd: Path, monkeypatch: pytest.MonkeyPatch, programs: tuple[str, ...], qstat: str, kind: str
) -> None:
    """Three batch systems have a `qstat`; the one that is here says which."""
    (wd / "bin").mkdir()
    for name in programs:
        (wd / "bin" / name).write_text(f"#!/bin/sh\n{qstat}\n")
        (wd / "bin" / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{wd}/bin")
    assert get_cluster_environment() == kind
