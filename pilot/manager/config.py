"""All settings of a manager: one frozen value, and the table of options from which the command line and the docs are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..model import walltime
from ..model.errors import SettingsError, UsageError
from ..notify import command_of
from ..systems import registry
from ..systems.named_resources import parse_all


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one manager. Names are those of the options, without dashes."""

    net: bool = False
    net_port: int | None = None
    net_port_min: int = 2222
    net_port_max: int = 9999
    net_pub_port: int | None = None
    net_plain: bool = False
    net_interface: str | None = None
    file: bool = False
    file_path: str = "qcg_pm_reqs.json"
    wd: Path = Path(".")
    envschema: tuple[str, ...] = ("auto",)
    report_format: Literal["json", "text", "columns", "none"] = "json"
    report_file: str = "jobs.report"
    nodes: str | None = None
    governor: bool = False
    allocations: Path | None = None
    parent: str | None = None
    resource: tuple[str, ...] = ()
    pool_resource: tuple[str, ...] = ()
    resources: str = "auto"
    slurm_limit_nodes_range_begin: int | None = None
    slurm_limit_nodes_range_end: int | None = None
    slurm_resources_file: Path | None = None
    log: str = "info"
    system_core: bool = False
    cpu_bind: Literal["auto", "none"] = "auto"
    local_models: Literal["use", "ignore"] | None = None
    show_progress: bool = False
    id: str | None = None
    tags: tuple[str, ...] = ()
    resume: Path | None = None
    disable_pub: bool = False
    walltime: float | None = None
    idle_timeout: float | None = None
    end_margin_s: float = 60.0
    kill_grace_s: float = 10.0
    heartbeat_s: float = 2.0
    node_lost_s: float = 15.0
    manager_wait_s: float = 600.0
    crash_limit: int = 5
    reserve_after_s: float = 10.0
    max_message_mib: int = 64
    agent_python: str | None = None
    agent_prelude: str = ""
    agent_connect: Literal["file", "variable"] = "file"
    agent_launcher: str | None = None
    nl_start_method: Literal["slurm", "ssh"] | None = None
    nl_init_timeout_s: float = 60.0
    nl_ready_threshold: float = 0.0
    min_nodes: int = 1
    enable_rt_stats: bool = False
    enable_proc_stats: bool = False
    metrics: str | None = None
    metrics_file: Path | None = None
    notify: str | None = None
    debug_checks: bool = False
    ready_fd: int | None = None
    lifeline_fd: int | None = None
    hold_fd: int | None = None

    @property
    def nodes_range(self) -> tuple[int | None, int | None]:
        """The first node to use and the one after the last, by position."""
        return self.slurm_limit_nodes_range_begin, self.slurm_limit_nodes_range_end

    @property
    def resources_document(self) -> str | None:
        """The file from which the nodes are taken."""
        return None if self.slurm_resources_file is None else str(self.slurm_resources_file)


class Option(NamedTuple):
    """One option of `pilotfish service`.

    `kind`: flag, int, float, text, time (1h30m), path, list, texts (an option that may be repeated), or a tuple of the words
    allowed.

    `group`: `old` for those of the old service, `ours`, `command` for those that say what to do and are not settings,
    `hidden`, `accepted` for those of the old service that have no effect here.
    """

    name: str
    kind: str | tuple[str, ...]
    help: str
    group: str = "old"
    aliases: tuple[str, ...] = ()
    """Names that it had; they are taken and not shown."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its name, and those that it had."""
        return (self.name, *self.aliases)

    @property
    def field(self) -> str:
        """Its name where no dash can be."""
        return self.name.replace("-", "_")

    @property
    def setting(self) -> str:
        """Its name in Settings."""
        return f"{self.field}_s" if self.name in _SECONDS else self.field


OPTIONS = (
    Option(
        "net",
        "flag",
        "Open the locked TCP endpoint (CURVE) beside the ipc socket; implied by --net-port*, and in a batch job.",
    ),
    Option("net-port", "int", "Port of the request endpoint; without it a free one of the range."),
    Option("net-port-min", "int", "Lowest port to try."),
    Option("net-port-max", "int", "Highest port to try."),
    Option("net-pub-port", "int", "Port of the event endpoint; without it a free one of the range."),
    Option(
        "net-plain", "flag", "Open plain TCP instead of the locked endpoint, for unmodified clients: no keys!", "ours"
    ),
    Option(
        "net-interface",
        "text",
        "Interface of the TCP endpoints; default: all for the locked, 127.0.0.1 for plain.",
        "ours",
    ),
    Option("file", "flag", "Read requests from a file; implied by --file-path."),
    Option("file-path", "text", "The file with a JSON array of requests."),
    Option("wd", "path", "Root of working folders and of the auxiliary folder; created if missing."),
    Option("envschema", "list", f"Environment of tasks: {', '.join(registry.schemas())} (comma list)."),
    Option(
        "report-format",
        ("json", "text", "columns", "none"),
        "Format of jobs.report; columns takes a fifth of the room (see docs/protocol.md).",
    ),
    Option("report-file", "text", "Name of the report, relative to the auxiliary folder."),
    Option(
        "nodes",
        "text",
        "Virtual nodes: a comma list of [NAME:]CORES[:Ngpu][:MEM][:RESOURCE=VALUE], e.g. 4,2 or n1:4:2gpu:16G.",
    ),
    Option(
        "resource",
        "texts",
        "What each node has beside cores, GPUs and memory: NAME=4 (a number), NAME=0-3 (with ids), NAME=400G (bytes); may be "
        "repeated. Jobs ask for it by this name (resources).",
        "ours",
    ),
    Option(
        "pool-resource",
        "texts",
        "What the pilot has as a whole, on no node, as licences: NAME=20; may be repeated.",
        "ours",
    ),
    Option("resources", "text", f"Which batch system's variables list the nodes: {', '.join(registry.names())}."),
    Option("slurm-limit-nodes-range-begin", "int", "First node of the allocation to use, by position from 0."),
    Option("slurm-limit-nodes-range-end", "int", "The node after the last one to use."),
    Option("slurm-resources-file", "path", "Take the nodes from this resources document."),
    Option("log", ("critical", "error", "warning", "info", "debug", "notset"), "Level of service.log."),
    Option(
        "cpu-bind", ("auto", "none"), "Bind tasks to their cores where these are known (auto), or never (none).", "ours"
    ),
    Option(
        "local-models",
        ("use", "ignore"),
        "Outside of a batch system's allocation: whether mpirun and its kin start a process for each core of a task whose job "
        "has such a model, or the program is started once, as by QCG-PilotJob; default: use, with --net-plain ignore.",
        "ours",
    ),
    Option("system-core", "flag", "Keep core 0 of the first node free for the manager."),
    Option("show-progress", "flag", "Print a line on stdout for each state change."),
    Option("id", "text", "Name of this manager and of its auxiliary folder."),
    Option("tags", "list", "Tags of the nodes of this pilot, which jobs can require (resources.tags; comma list)."),
    Option("resume", "path", "Continue the run of this auxiliary folder (or the latest one in this folder)."),
    Option("disable-pub", "flag", "Do not publish events."),
    Option("walltime", "time", "How long this pilot may run, e.g. 1h30m; default: until the allocation ends.", "ours"),
    Option(
        "idle-timeout",
        "time",
        "End when no work is left and no client has asked for anything for so long, e.g. 15m; default: never.",
        "ours",
    ),
    Option(
        "end-margin",
        "float",
        "Seconds before that end in which nothing is started; at most a tenth of a short allocation.",
        "ours",
    ),
    Option("kill-grace", "float", "Seconds between SIGTERM and SIGKILL.", "ours"),
    Option("heartbeat", "float", "Seconds between heartbeats of manager and agents.", "ours"),
    Option("node-lost", "float", "Seconds of silence after which an agent counts as lost.", "ours"),
    Option("manager-wait", "float", "Seconds that agents keep tasks running without a manager.", "ours"),
    Option("crash-limit", "int", "A task fails when its agent has been lost this often while it ran.", "ours"),
    Option(
        "reserve-after",
        "float",
        "Seconds for which later jobs may pass a waiting one before nodes are held for it.",
        "ours",
    ),
    Option("max-message-mib", "int", "Largest message a client may send, in MiB.", "ours"),
    Option("agent-python", "text", "Python interpreter of the agents; default: the manager's own.", "ours"),
    Option(
        "agent-prelude", "text", "Shell commands to run before the agents' Python, e.g. 'module load python'.", "ours"
    ),
    Option(
        "agent-connect",
        ("file", "variable"),
        "How agents find the manager: by its connection file, or, without a shared folder, by a variable.",
        "ours",
    ),
    Option(
        "agent-launcher",
        "text",
        f"How agents are started: {', '.join(registry.launchers())}; default: as the batch system does it.",
        "ours",
        aliases=("placement",),
    ),
    Option("min-nodes", "int", "Exit with an error when fewer nodes than this have an agent.", "ours"),
    Option("nl-init-timeout", "float", "Seconds within which agents must report."),
    Option("nl-ready-threshold", "float", "Share of the nodes, 0 to 1, that must have an agent by then."),
    Option(
        "nl-start-method", ("slurm", "ssh"), "How agents are started on the nodes of a batch job: its own way, or ssh."
    ),
    Option(
        "metrics",
        "text",
        "Serve OpenMetrics at http://ADDRESS:PORT/metrics: [ADDRESS:]PORT, by default 127.0.0.1; port 0: a free one, which "
        "`pilotfish status` tells.",
        "ours",
    ),
    Option(
        "metrics-file",
        "path",
        "Write metrics to this file every 5 s, for a node exporter's textfile collector (NAME.prom).",
        "ours",
    ),
    Option(
        "notify",
        "text",
        "Run this command (no shell) at the first failure of a task and at the end; variables tell what has happened.",
        "ours",
    ),
    Option("debug-checks", "flag", "Check all invariants after every turn; for hunting bugs, slow.", "ours"),
    Option("config", "path", "TOML file with a table [service] of these options.", "command"),
    Option("show-settings", "flag", "Print every setting with its origin, and exit.", "command"),
    Option("json", "flag", "Print JSON.", "command"),
    Option("ready-fd", "int", "", "hidden"),
    Option("lifeline-fd", "int", "", "hidden"),
    Option("hold-fd", "int", "", "hidden"),
    Option("disable-nl", "flag", "Accepted for compatibility; has no effect.", "accepted"),
    Option("enable-proc-stats", "flag", "Write which processes tasks start, seen once a second, to WD/ptrace_*.log."),
    Option("enable-rt-stats", "flag", "Write when the process of each task began and ended to WD/rtimes_*.log."),
    Option(
        "wrapper-rt-stats",
        "text",
        "Accepted for compatibility; has no effect: agents measure without a program around the task.",
        "accepted",
    ),
    Option("governor", "flag", "Bring no nodes: wait for agents that join (`pilotfish agent`, or --parent)."),
    Option(
        "allocations",
        "path",
        "Let the queue ask for nodes, as `allocations` in this file says (see `pilotfish alloc`). Implies --net; outside of a "
        "batch job there are no other nodes then, unless --nodes gives some.",
        "ours",
    ),
    Option(
        "parent", "text", "Start no manager: let the nodes of this allocation join the pilot of this connection file."
    ),
    Option(
        "slurm-partition-nodes",
        "int",
        "Accepted for compatibility; has no effect: one manager serves all partitions.",
        "accepted",
    ),
)

OF_ALLOCATION = frozenset(
    (
        "nodes",
        "resource",
        "resources",
        "slurm-resources-file",
        "slurm-limit-nodes-range-begin",
        "slurm-limit-nodes-range-end",
    )
)
"""Options that say which nodes there are."""
_SECONDS = ("end-margin", "kill-grace", "heartbeat", "node-lost", "manager-wait", "reserve-after", "nl-init-timeout")
_ABOVE_ZERO = ("heartbeat", "node-lost", "crash-limit", "max-message-mib")
_WITH_NET = ("net", "net-plain", "net-port", "net-port-min", "net-port-max", "allocations")
_PORTS = ("net-port", "net-port-min", "net-port-max", "net-pub-port")
_HIGHEST_PORT = 65535
_METRICS_HOST = "127.0.0.1"


def default_of(option: Option) -> Any:
    """The value without the option; None if it has no default."""
    return next((field.default for field in fields(Settings) if field.name == option.setting), None)


def build(given: Mapping[str, Any], places: Mapping[str, str] | None = None) -> Settings:
    """Settings from what was said, by option name (not there, None or False: not said).

    `places`: where each was said, for errors; one that is not in it was an option. Raises SettingsError.
    """
    values: dict[str, Any] = {}
    for option in OPTIONS:
        value = given.get(option.name)
        if value is None or value is False or value == ():
            continue
        if option.group not in ("accepted", "command"):
            values[option.setting] = _converted(option, value, (places or {}).get(option.name, f"--{option.name}"))
    values["net"] = any(given.get(name) for name in _WITH_NET)
    values["file"] = bool(given.get("file") or given.get("file-path"))
    settings = Settings(**values)
    _check(settings, places or {})
    return settings


def _converted(option: Option, value: Any, where: str) -> Any:
    if option.kind == "time":
        try:
            return walltime.parse(value)
        except UsageError as error:
            raise SettingsError(error.what, where=where, remedy=error.remedy) from error
    if option.kind == "list":
        return tuple(word.strip() for word in str(value).split(",") if word.strip())
    if option.kind == "texts":
        return tuple(value)
    return Path(value) if option.kind == "path" else value


def _check(settings: Settings, places: Mapping[str, str]) -> None:
    for word in settings.envschema:
        if word not in registry.schemas():
            where = places.get("envschema", "--envschema")
            raise SettingsError(
                f'environment "{word}" not available', where=where, remedy=f"use {', '.join(registry.schemas())}"
            )
    if settings.net_port_min > settings.net_port_max:
        raise SettingsError(
            f"{settings.net_port_min} is above {settings.net_port_max}", where="--net-port-min, --net-port-max"
        )
    parse_all(settings.resource, places.get("resource", "--resource"))
    parse_all(settings.pool_resource, places.get("pool-resource", "--pool-resource"))
    if settings.metrics is not None:
        address_of(settings.metrics, places.get("metrics", "--metrics"))
    if settings.notify is not None:
        command_of(settings.notify, places.get("notify", "--notify"))
    for option in OPTIONS:
        value = getattr(settings, option.setting, None)
        if option.kind in ("int", "float") and value is not None:
            _check_number(option.name, value, places.get(option.name, f"--{option.name}"))


def address_of(text: str, where: str = "--metrics") -> tuple[str, int]:
    """Address and port of `[ADDRESS:]PORT`. Raises SettingsError."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and int(port) <= _HIGHEST_PORT):
        raise SettingsError(
            f"{text!r} is not a port", where=where, remedy="write 9400, or 0.0.0.0:9400 to let others in"
        )
    return host.strip("[]") or _METRICS_HOST, int(port)


def _check_number(name: str, value: float, where: str) -> None:
    if not math.isfinite(value):
        raise SettingsError(f"{value} is not a finite number", where=where)
    if value < 0:
        raise SettingsError(f"{value} is negative", where=where)
    if value == 0 and name in _ABOVE_ZERO:
        raise SettingsError("must be above 0", where=where)
    if name == "nl-ready-threshold" and value > 1:
        raise SettingsError(f"{value} is not a share", where=where, remedy="write 0 to 1")
    if name in _PORTS and not 1 <= value <= _HIGHEST_PORT:  # ZeroMQ takes others, and listens somewhere else
        raise SettingsError(f"{value} is not a port", where=where, remedy=f"use 1 to {_HIGHEST_PORT}")
