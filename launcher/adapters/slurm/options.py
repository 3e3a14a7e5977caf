"""Options of sbatch and srun: each is honoured, kept as a label, or refused; none is ignored in silence.

From sbatch(1) and srun(1) of Slurm 22.05. `NONE` are those without a value, `OPTIONAL` those whose value must be joined by `=`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple


class Value(Enum):
    REQUIRED = "required"
    NONE = "none"
    OPTIONAL = "optional"


class Treatment(Enum):
    HONOURED = "honoured"
    LABEL = "kept and shown"
    """A name that decides nothing here: one pilot serves all accounts and QOS."""
    GRANTED = "always so"
    """What it asks for holds anyway, or it permits something that is not done."""
    REFUSED = "refused"


class Option(NamedTuple):
    """`name` is the long name without dashes. `why`: for refused ones what Slurm, or we, say; for granted ones the reason."""

    name: str
    short: str = ""
    value: Value = Value.REQUIRED
    treatment: Treatment = Treatment.HONOURED
    why: str = ""
    variable: str = ""
    """sbatch's input variable; `srun`'s begins with SLURM_ and is not read: in a job it describes the job."""


def _each(names: str, value: Value, treatment: Treatment, why: str) -> list[Option]:
    split = [word.partition("/") for word in names.split()]
    return [Option(name, short, value, treatment, why) for name, _, short in split]


def flags(names: str) -> list[Option]:
    """Options without a value, of words `name` or `name/n`."""
    return _each(names, Value.NONE, Treatment.HONOURED, "")


def granted(names: str, why: str = "it asks for nothing else") -> list[Option]:
    """Options without a value for what is so anyway."""
    return _each(names, Value.NONE, Treatment.GRANTED, why)


def valued(names: str) -> list[Option]:
    """Options with a value."""
    return _each(names, Value.REQUIRED, Treatment.HONOURED, "")


def refused(names: str, why: str, value: Value = Value.REQUIRED) -> list[Option]:
    return _each(names, value, Treatment.REFUSED, why)


_NONE, _OPTIONAL = Value.NONE, Value.OPTIONAL
_LABEL, _GRANTED = Treatment.LABEL, Treatment.GRANTED

_CONFIGURATION = "Requested node configuration is not available"
_BINDING = "a pilot places tasks by cores alone"
_NODES = "Invalid node name specified"
_CLOCK = "a pilot has no such clock"
_NO_MAIL = "a pilot sends no mail"
_NOT_HERE = "a pilot cannot do that"

_LICENSE = "Invalid license specification"
_RESERVATION = "Requested reservation is invalid"
_BURST_BUFFER = "Invalid burst buffer specification"
SLURMS = frozenset({_CONFIGURATION, _NODES, _LICENSE, _RESERVATION, _BURST_BUFFER})
"""Reasons that are the words of a Slurm that has none of what was asked for."""

BOTH: list[Option] = [
    Option("account", "A", treatment=_LABEL, variable="SBATCH_ACCOUNT"),
    Option("chdir", "D"),
    Option("comment", treatment=_LABEL, variable="SBATCH_COMMENT"),
    Option("constraint", "C", variable="SBATCH_CONSTRAINT"),
    Option("cpus-per-task", "c"),
    Option("error", "e", variable="SBATCH_ERROR"),
    Option("exclusive", value=_OPTIONAL, variable="SBATCH_EXCLUSIVE"),
    Option("export", variable="SBATCH_EXPORT"),
    Option("gpus", "G", variable="SBATCH_GPUS"),
    Option("gpus-per-node", variable="SBATCH_GPUS_PER_NODE"),
    Option("gpus-per-task", variable="SBATCH_GPUS_PER_TASK"),
    Option("gres", variable="SBATCH_GRES"),
    Option("help", "h", _NONE),
    Option("input", "i", variable="SBATCH_INPUT"),
    Option("job-name", "J", variable="SBATCH_JOB_NAME"),
    Option("mem"),
    Option("mem-per-cpu", variable="SBATCH_MEM_PER_CPU"),
    Option("mem-per-gpu", variable="SBATCH_MEM_PER_GPU"),
    Option("nodes", "N"),
    Option("ntasks", "n"),
    Option("ntasks-per-node"),
    Option("tasks-per-node"),
    Option("open-mode", variable="SBATCH_OPEN_MODE"),
    Option("output", "o", variable="SBATCH_OUTPUT"),
    Option("oversubscribe", "s", _NONE, _GRANTED, "it permits, and demands nothing"),
    Option("share", "", _NONE, _GRANTED, "it permits, and demands nothing"),
    Option("partition", "p", variable="SBATCH_PARTITION"),
    Option("qos", "q", treatment=_LABEL, variable="SBATCH_QOS"),
    Option("quiet", "Q", _NONE),
    Option("time", "t", variable="SBATCH_TIMELIMIT"),
    Option("time-min", treatment=_GRANTED, why="the limit is never shortened"),
    Option("usage", value=_NONE),
    Option("verbose", "v", _NONE, _GRANTED, "there is nothing more to say"),
    Option("version", "V", _NONE),
    Option("wckey", value=_OPTIONAL, treatment=_LABEL, variable="SBATCH_WCKEY"),
    *refused("licenses/L", _LICENSE),
    *refused("reservation", _RESERVATION),
    *refused("nodelist/w exclude/x nodefile/F", _NODES),
    *refused("mail-type mail-user", _NO_MAIL),
    *refused("deadline delay-boot", _CLOCK),
    *refused("cores-per-socket sockets-per-node threads-per-core extra-node-info/B mincpus tmp ", _CONFIGURATION),
    *refused("ntasks-per-core ntasks-per-socket ntasks-per-gpu cpus-per-gpu gpus-per-socket hint", _BINDING),
    *refused("core-spec/S thread-spec switches gres-flags gpu-freq cpu-freq power", _CONFIGURATION),
    *refused("contiguous overcommit/O no-kill/k spread-job use-min-nodes reboot", _CONFIGURATION, _NONE),
    *refused("uid gid", "a pilot runs jobs of one user"),
    *refused("bb bbf", _BURST_BUFFER),
    *refused("profile acctg-freq network mcs-label container prefer tres-per-task", _NOT_HERE),
    *refused("distribution/m gpu-bind mem-bind", _BINDING),
    *refused("propagate", "a task has the limits of its node", _OPTIONAL),
    Option("clusters", "M", variable="SBATCH_CLUSTERS"),
]

SBATCH: list[Option] = [
    *BOTH,
    Option("array", "a", variable="SBATCH_ARRAY_INX"),
    Option("begin", "b"),
    Option("dependency", "d"),
    Option("hold", "H", _NONE),
    Option("ignore-pbs", "", _NONE, _GRANTED, "#PBS lines are never read", "SBATCH_IGNORE_PBS"),
    Option("kill-on-invalid-dep"),
    Option("nice", value=_OPTIONAL),
    Option("no-requeue", value=_NONE, variable="SBATCH_NO_REQUEUE"),
    Option("parsable", value=_NONE),
    Option("priority"),
    Option("requeue", value=_NONE, variable="SBATCH_REQUEUE"),
    Option("signal", variable="SBATCH_SIGNAL"),
    Option("wait", "W", _NONE, variable="SBATCH_WAIT"),
    Option("wrap"),
    *refused("test-only", "when a job could start is not foretold", _NONE),
    Option("get-user-env", value=_OPTIONAL),
    *refused("export-file cluster-constraint", _NOT_HERE),
    *refused("wait-all-nodes", _NOT_HERE),
]

SRUN: list[Option] = [
    *BOTH,
    Option("cpu-bind"),
    Option("exact", value=_NONE),
    Option("immediate", "I", _OPTIONAL, _GRANTED, "it only gives up earlier"),
    Option("jobid"),
    Option("kill-on-bad-exit", "K", _OPTIONAL),
    Option("label", "l", _NONE),
    Option("mpi"),
    Option("overlap", value=_NONE),
    Option("unbuffered", "u", _NONE, _GRANTED, "output is passed on as it comes"),
    Option("wait", "W", treatment=_GRANTED, why="a step ends with its last task"),
    *refused("multi-prog pty preserve-env no-allocate/Z disable-status/X whole", _NOT_HERE, _NONE),
    *refused("relative/r prolog epilog task-prolog task-epilog bcast compress het-group slurmd-debug", _NOT_HERE),
    *refused("resv-ports join signal threads", _NOT_HERE),
]

TABLES: Mapping[str, list[Option]] = {"sbatch": SBATCH, "srun": SRUN}
