"""Which of our modules stand behind which module of the old systems, and which commands they had.

A module of an old system is served when its name is in `PARTS`, or when our package for that system has a module of the same
name: `dpdispatcher.utils.record` is `launcher/compat/dpdispatcher/utils/record.py` as soon as that file is there. Its names
are looked up in that file first, then in the modules that `PARTS` lists, in their order. What neither has is left to the
original, where that is installed; else importing it is an error that says so.
"""

from __future__ import annotations

from typing import NamedTuple


class System(NamedTuple):
    """One of the old systems.

    Attributes:
        top: the package whose names we serve.
        home: our package for it, below `pilotfish`.
        version: the version whose names these are.
        distributions: what it was called on the index; `importlib.metadata` tells their version.
        environment: variables that programs of this system need; those that are set already stay.
    """

    top: str
    home: str
    version: str
    distributions: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


SYSTEMS = {
    "qcg": System(
        "qcg.pilotjob",
        "launcher.compat.qcg",
        "0.14.2",
        ("qcg-pilotjob", "qcg-pilotjob-executor-api", "qcg-pilotjob-cmds"),
        # There a model has no effect on one machine, and programs name one always.
        (("PILOTFISH_LOCAL_MODELS", "ignore"),),
    ),
    "dpdispatcher": System(
        "dpdispatcher",
        "launcher.compat.dpdispatcher",
        "1.1.0",
        ("dpdispatcher",),
        # There they have no effect, and programs write more than one machine needs.
        (("PILOTFISH_UNKNOWN_KEYS", "warn"),),
    ),
    "clusterjob": System("clusterjob", "launcher.compat.clusterjob", "1.1.3", ("clusterjob",)),
    "fyrd": System("fyrd", "launcher.compat.fyrd", "0.6.2b1", ("fyrd",)),
}

_EXECUTOR = "launcher.compat.qcg.executor"
_QCG = {
    "": (),
    ".api": (),
    ".api.manager": ("api.local", "api.manager"),
    ".api.job": ("api.jobs",),
    ".api.jobinfo": ("api.jobinfo",),
    ".api.errors": ("api.errors",),
    ".executor_api": (),
    ".executor_api.qcgpj_executor": (_EXECUTOR,),
    ".executor_api.qcgpj_future": (_EXECUTOR,),
    ".executor_api.templates": (),
    ".executor_api.templates.basic_template": (_EXECUTOR,),
    ".executor_api.templates.qcgpj_template": (_EXECUTOR,),
    ".service": ("launcher.compat.qcg.service",),
    ".command_line": ("launcher.compat.qcg.service",),
    ".client_cmd": ("launcher.compat.qcg.client",),
    ".cmds": (),
    ".cmds.report": ("api.report_cli",),
    ".cmds.processes": ("api.report_cli",),
    ".utils": (),
    ".utils.auxdir": ("launcher.compat.qcg.auxdir",),
}

_DPDISPATCHER = "launcher.compat.dpdispatcher"
_OF_DPDISPATCHER = (
    "machines",
    *(f"machines.{name}" for name in ("slurm", "pbs", "lsf", "shell", "fugaku", "JH_UniScheduler")),
    *(f"machines.{name}" for name in ("distributed_shell", "dp_cloud_server", "openapi")),
    "contexts",
    *(f"contexts.{name}" for name in ("local_context", "lazy_local_context", "ssh_context")),
    *(f"contexts.{name}" for name in ("hdfs_context", "dp_cloud_server_context", "openapi_context")),
    "base_context",
    # Names of its versions before 0.5, which programs of that time import.
    *("JobStatus", "slurm", "pbs", "lsf", "shell", "distributed_shell", "dp_cloud_server", "dp_cloud_server_context"),
    *("local_context", "lazy_local_context", "ssh_context", "hdfs_context"),
)

_DPCLOUDSERVER = "launcher.compat.dpdispatcher.utils.dpcloudserver"
_BACKENDS = ("slurm", "pbs", "pbspro", "lpbs", "lsf", "sge")

PARTS: dict[str, tuple[str, ...]] = {
    **{f"qcg.pilotjob{name}": parts for name, parts in _QCG.items()},
    "dpdispatcher": (
        *("launcher.submission.submission", "launcher.submission.job", "launcher.submission.machine"),
        *("launcher.description.task", "launcher.description.resources", _DPDISPATCHER),
    ),
    "dpdispatcher.machine": ("launcher.submission.machine", _DPDISPATCHER),
    "dpdispatcher.submission": (
        *("launcher.submission.submission", "launcher.submission.job"),
        *("launcher.description.task", "launcher.description.resources", _DPDISPATCHER),
    ),
    "dpdispatcher.utils": (_DPDISPATCHER,),
    "dpdispatcher.utils.job_status": (_DPDISPATCHER,),
    **{f"dpdispatcher.{name}": (_DPDISPATCHER,) for name in _OF_DPDISPATCHER},
    "dpdispatcher.dpcloudserver": (_DPCLOUDSERVER,),
    **{f"dpdispatcher.dpcloudserver.{name}": (_DPCLOUDSERVER,) for name in ("client", "retcode", "zip_file")},
    "dpdispatcher.__main__": (),
    "dpdispatcher.dpdisp": (),
    "clusterjob": ("launcher.compat.clusterjob.jobscript", "launcher.compat.clusterjob.async_result"),
    **{f"clusterjob.backends.{name}": ("launcher.compat.clusterjob.backends",) for name in _BACKENDS},
    "fyrd": (),
    "fyrd.__main__": (),
    "fyrd.queue": ("launcher.compat.fyrd.batch_systems",),
    "fyrd.batch_systems.options": ("launcher.compat.fyrd.options",),
    "fyrd.script_runners": ("launcher.compat.fyrd.functions",),
    "fyrd.jobqueue": ("launcher.compat.fyrd.local",),  # of its releases before 0.6.2
    "fyrd.config_file": ("launcher.compat.fyrd.conf",),
}
"""Module of an old system -> modules of ours, below `pilotfish`, in which its names are looked up."""

COMMANDS = {
    "qcg.pilotjob.service": "qcg-pm-service",
    "qcg.pilotjob.client_cmd": "qcg-pm",
    "qcg.pilotjob.cmds.report": "qcg-pm-report",
    "qcg.pilotjob.cmds.processes": "qcg-pm-processes",
    "dpdispatcher.__main__": "dpdisp",
    "dpdispatcher.dpdisp": "dpdisp",
    "clusterjob.cli": "clusterjob-test-backend",
    "fyrd.__main__": "fyrd",
}
"""Module of an old system -> the command that it is with `python -m`."""
