"""The keys of machine, resources, task and submission files: one table, from which checking, help and `pilotfish init` come.

Names, types and defaults are DPDispatcher's; the keys marked `ours` are not in it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .cloud_keys import BOHRIUM_PROFILE, OPENAPI_PROFILE
from .keys import REQUIRED as REQUIRED
from .keys import DescriptionError as DescriptionError
from .keys import InconsistentError as InconsistentError
from .keys import Key as Key
from .keys import KeysOfSystem as KeysOfSystem
from .keys import UnknownNameError as UnknownNameError
from .keys import at, checked_value, is_plain, said
from .keys import nearest as nearest
from .keys import out_of_range as out_of_range

log = logging.getLogger(__name__)
_UNKNOWN_KEYS = "PILOTFISH_UNKNOWN_KEYS"
"""`warn`: they are left out with a warning, as `pilotfish with dpdispatcher` has it for programs that cannot be edited."""

Elsewhere = Callable[[str], str]
"""The remedy for a name that belongs in another table; empty for one that does not."""


MACHINE = (
    Key("batch_type", "str", REQUIRED, "the batch system; Shell: none, jobs start at once", ("machine_type",)),
    Key("context_type", "str", REQUIRED, "how to reach it: Local, LazyLocal, SSH, HDFS, Bohrium or OpenAPI"),
    Key("local_root", "str", REQUIRED, "the project's folder here; `work_base` is below it"),
    Key(
        "remote_root",
        "str|null",
        None,
        "the folder on the machine below which each submission has its own; `~` and `$VARIABLES` mean what they mean there, "
        "and over SSH a relative one is below the home folder",
    ),
    Key("clean_asynchronously", "bool", False, "do not wait until the submission's folder is removed"),
    Key("create_remote_root", "bool", False, "taken for DPDispatcher's files: missing folders are always made"),
    Key("remote_profile", "dict", {}, "how to log in"),
    Key("retry_count", "int", 3, "how often a job that failed is placed again", least=0),
)

LOCAL_PROFILE = (Key("symlink", "bool", True, "link inputs into the submission's folder instead of copying them"),)

SSH_PROFILE = (
    Key("hostname", "str", REQUIRED, "the host, or an alias of ~/.ssh/config"),
    Key("username", "str|null", None, "the user there; default: of ~/.ssh/config, else yours"),
    Key("password", "str|null", None, "better `env:NAME`, `file:PATH`, `keyring:SERVICE/USER` or `ask:`", secret=True),
    Key("port", "int|null", None, "default: of ~/.ssh/config, else 22", least=1, most=65535),
    Key("key_filename", "str|null", None, "the private key"),
    Key("passphrase", "str|null", None, "of the private key; may be a reference like `password`", secret=True),
    Key("timeout", "float", 10, "seconds to wait for a connection", least=1),
    Key("totp_secret", "str|null", None, "base32 secret of the second factor; may be a reference", secret=True),
    Key("tar_compress", "bool", True, "compress what is transferred"),
    Key("look_for_keys", "bool", True, "try the keys of the agent and in ~/.ssh"),
    Key("execute_command", "str|null", None, "run after each connect"),
    Key("proxy_command", "str|null", None, "a command whose input and output are the connection"),
    Key("archive_chunk_size", "int", 0, "bytes of one part of a download; 0: in one piece", least=0),
    Key("rsync", "bool", True, "use rsync where both ends have it; else one archive", ours=True),
    Key("jump", "str|null", None, "hosts to go through: USER@HOST:PORT, comma between them", ours=True),
    Key("accept_new", "bool", False, "accept and remember the key of a host never seen before", ours=True),
    Key("known_hosts", "str|null", None, "file of known host keys besides ~/.ssh/known_hosts", ours=True),
    Key("ssh_config", "str|null", None, "configuration file; default ~/.ssh/config", ours=True),
    Key("keepalive", "float", 30, "seconds between signs of life; 0: none", ours=True, least=0),
    Key("reconnect_for", "float", 600, "seconds to go on trying when the connection is lost", ours=True, least=0),
    Key(
        "transport",
        "str",
        "auto",
        "who speaks SSH: openssh (the `ssh` of this machine), paramiko, or auto: openssh where the host needs what paramiko "
        "lacks, unless there is a `password` or `totp_secret`",
        ours=True,
        choices=("auto", "paramiko", "openssh"),
    ),
    Key(
        "answers",
        "dict[str]",
        {},
        "answers to what the host asks at a login, by a part of the question; each may be a reference like `password`",
        ours=True,
        secret=True,
    ),
)


@dataclass(frozen=True)
class ContextKind:
    """A way to reach machines, as files name it.

    Attributes:
        name: of the class, which is DPDispatcher's for those that it has too.
        module: where the class is, below `launcher/contexts`.
        profile: the keys of `remote_profile`; None: any.
        in_place: the work is done in the folder of the tasks themselves.
        has_root: submissions lie below `remote_root`.
        systems: the batch systems that are reached by it, and by no other; empty: any of those that have no way of their own.
        aliases: other names, without `Context`.
    """

    name: str
    module: str
    profile: tuple[Key, ...] | None = None
    in_place: bool = False
    has_root: bool = True
    systems: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def staged(self) -> bool:
        """Whether jobs run where no command of ours does."""
        return bool(self.systems)


CONTEXTS = {
    "Local": ContextKind("LocalContext", "local", LOCAL_PROFILE),
    "LazyLocal": ContextKind("LazyLocalContext", "lazy_local", in_place=True, has_root=False),
    "SSH": ContextKind("SSHContext", "ssh.context", SSH_PROFILE),
    "HDFS": ContextKind("HDFSContext", "hdfs", systems=("DistributedShell",)),
    "Bohrium": ContextKind(
        "BohriumContext",
        "bohrium",
        BOHRIUM_PROFILE,
        has_root=False,
        systems=("Bohrium",),
        aliases=("DpCloudServer", "Lebesgue"),
    ),
    "OpenAPI": ContextKind("OpenAPIContext", "openapi", OPENAPI_PROFILE, has_root=False, systems=("OpenAPI",)),
}
"""All there are, by what is written (`Context` may follow). A new one is a line here and its module."""


def context_kind(name: str) -> ContextKind:
    """By the name of its class."""
    return next(kind for kind in CONTEXTS.values() if kind.name == name)


def ways_to(batch_type: str) -> list[str]:
    """The contexts by which a batch system is reached, as they are written."""
    own = [name for name, kind in CONTEXTS.items() if batch_type in kind.systems]
    return own or [name for name, kind in CONTEXTS.items() if not kind.systems]


def check_pair(batch_type: str, context_type: str, where: str) -> None:
    """Raises InconsistentError for a batch system that is not reached this way."""
    ways = [CONTEXTS[name].name for name in ways_to(batch_type)]
    if context_type not in ways:
        what = f"{batch_type} is not reached by {context_type}"
        raise InconsistentError(what, where=at(where, "context_type"), remedy=f"write {' or '.join(ways)}")


STRATEGY = (
    Key("if_cuda_multi_devices", "bool", False, "give each running task a GPU of its own"),
    Key("ratio_unfinished", "float", 0.0, "cancel the rest when at most this share of the tasks is left; 0 <= r < 1"),
    Key("customized_script_header_template_file", "str|null", None, "a file that replaces the header of the script"),
)

RESOURCES = (
    Key("number_node", "int", 1, "nodes of one job", least=1),
    Key("cpu_per_node", "int", 1, "cores on each of them", least=1),
    Key("gpu_per_node", "int", 0, "GPUs on each of them", least=0),
    Key("queue_name", "str", "", "queue or partition; empty: the default one"),
    Key("group_size", "int", REQUIRED, "tasks of one job; 0: all in one", least=0),
    Key("custom_flags", "list[str]", [], "lines that go below the header as they are"),
    Key("strategy", "dict", {}, "how the tasks of a job are run"),
    Key("para_deg", "int", 1, "tasks of a job that run at the same time", least=1),
    Key("module_purge", "bool", False, "`module purge` first"),
    Key("module_unload_list", "list[str]", [], "modules to unload"),
    Key("module_list", "list[str]", [], "modules to load"),
    Key("source_list", "list[str]", [], "scripts to source, with their arguments"),
    Key("envs", "dict", {}, "environment variables; of a list each value in turn"),
    Key("prepend_script", "list[str]", [], "shell lines before the tasks"),
    Key("append_script", "list[str]", [], "shell lines after the tasks"),
    Key("wait_time", "float", 0, "seconds to wait after each submit", least=0),
    Key("kwargs", "dict", {}, "keys of one batch system"),
    Key("walltime", "str|float|null", None, "time limit of a job: 1h30m, HH:MM:SS, or seconds", ours=True),
    Key("account", "str|null", None, "account or project to be charged", ours=True),
    Key("qos", "str|null", None, "quality of service", ours=True),
    Key("memory", "str|int|null", None, "memory on each node: 4G, 500M, or MiB", ours=True),
    Key("exclusive", "bool", False, "nodes for this job alone", ours=True),
    Key("reservation", "str|null", None, "a reservation to run in", ours=True),
    Key("dependency", "list[str]", [], "ids of batch jobs that must have ended well", ours=True),
    Key("max_jobs", "int|null", None, "jobs of the submission in the queue at the same time", ours=True, least=1),
)

SYSTEM = Key(
    "batch_type", "str|null", None, "the batch system whose keys are in `kwargs`: they are checked, and get defaults"
)
"""May stand beside the keys of RESOURCES; not written."""

TASK = (
    Key("command", "str", REQUIRED, "shell text"),
    Key("task_work_path", "str", REQUIRED, "the task's folder below `work_base`"),
    Key("forward_files", "list[str]", [], "patterns of files that go to the machine"),
    Key("backward_files", "list[str]", [], "patterns of files that come back"),
    Key("outlog", "str|null", "log", "file for standard output"),
    Key("errlog", "str|null", "err", "file for standard error"),
    Key("task_name", "str|null", None, "name shown by the batch system when the job has this task only"),
    Key("resources", "dict|null", None, "of a pilot's task: cores, nodes, gpus, memory, wt, min_time", ours=True),
    Key("dependencies", "list[str]", [], "of a pilot's task: names of tasks that come first", ours=True),
    Key("iteration", "dict|null", None, "of a pilot's task: {start, stop} or {values}", ours=True),
    Key("retries", "int", 0, "of a pilot's task: starts after a failed one", ours=True, least=0),
)

TASK_RESOURCES = (
    Key("cores", "int", 1, "cores, on each node when `nodes` is given", ours=True, least=1),
    Key("nodes", "int|null", None, "nodes", ours=True, least=1),
    Key("gpus", "int|float|str", 0, "GPUs on each node; 0.25 or 1/3: part of one", ours=True),
    Key("named", "dict|null", None, "how much of named resources of the pilot, by name: {licence: 1}", ours=True),
    Key("memory", "str|int|null", None, "memory on each node: 4G, 500M, or MiB", ours=True),
    Key("wt", "str|float|null", None, "time limit: 1h30m, HH:MM:SS, or seconds", ours=True),
    Key("min_time", "str|float|null", None, "starts only where that much time is left; default: wt", ours=True),
)

PILOT = (
    Key("pilots", "int", 1, "allocations at the same time, whose nodes share one queue", ours=True, least=1),
    Key(
        "max_allocations",
        "int",
        10,
        "allocations in all, one after the other, until the work is done",
        ours=True,
        least=1,
    ),
    Key("bootstrap", "str", "auto", "install pilotfish on the machine: auto, never or always", ours=True),
    Key("python", "str|null", None, "a Python on the machine that has, or may get, pilotfish", ours=True),
    Key("wheelhouse", "str|null", None, "folder of wheels here, for machines without a package index", ours=True),
    Key("options", "list[str]", [], "more options for `pilotfish run`", ours=True),
    Key(
        "service",
        "bool",
        False,
        "serve clients (`submissions tunnel`) until one says `finish`, with an empty `task_list` and one allocation at a time; "
        "`options` are those of `pilotfish service`",
        ours=True,
    ),
)

ALLOCATION = (
    Key("machine", "str", "", "a machine by its name or file; empty: the batch system of this host", ours=True),
    Key("name", "str|null", None, "what `pilotfish alloc` calls it; default: that of the machine", ours=True),
    Key("nodes", "str|int", "1", "least and most nodes of one allocation: 1-8, or 4", ours=True),
    Key("walltime", "str|float", "1h", "the longest time limit to ask for: 4h, HH:MM:SS, or seconds", ours=True),
    Key("max_waiting", "int", 2, "allocations that may wait in the batch system at once", ours=True, least=1),
    Key("max_nodes", "int|null", None, "nodes that may wait and run in all", ours=True, least=1),
    Key("idle", "str|float", "5m", "how long its nodes may be idle before they are given up", ours=True),
    Key("min_work", "str|float", "10m", "for how long an allocation must be of use to be asked for", ours=True),
    Key("budget", "str|float|null", None, "what all may use together: 500node-hours (a number is these)", ours=True),
    Key("cores", "int|null", None, "cores on each node; default: whole nodes", ours=True, least=1),
    Key("gpus", "int", 0, "GPUs on each node", ours=True, least=0),
    Key("memory", "str|int|null", None, "memory on each node: 4G, 500M, or MiB", ours=True),
    Key("tags", "list[str]", [], "tags of its nodes, which jobs can require", ours=True),
    Key("priority", "int", 0, "those of a higher one are asked first", ours=True),
    Key(
        "agents_connect", "str|null", None, "HOST:PORT where its nodes reach the pilot: the end of a tunnel", ours=True
    ),
    Key("resources", "dict", {}, "keys of `resources` besides: queue_name, account, qos, custom_flags …", ours=True),
)

SUBMISSION = (
    Key("work_base", "str", REQUIRED, "the folder of the tasks, below `local_root`"),
    Key("machine", "dict|str", REQUIRED, "a machine, or the name of one of your machine files"),
    Key("resources", "dict", REQUIRED, "what a job asks for"),
    Key("task_list", "list[dict]", REQUIRED, "the tasks"),
    Key("forward_common_files", "list[str]", [], "patterns of files below `work_base` that all tasks need"),
    Key("backward_common_files", "list[str]", [], "patterns of files below `work_base` that come back"),
    Key("previous_submission_hash", "str|null", None, "take over what tasks of this earlier submission have done"),
    Key(
        "continue_on_failure", "bool", False, "taken for DPDispatcher's files: all jobs are always watched to their end"
    ),
    Key("pilot", "dict|null", None, "run the tasks in a pilot", ours=True),
)


def check(table: Sequence[Key], given: Any, where: str, elsewhere: Elsewhere = lambda name: "") -> dict[str, Any]:
    """The values of all keys of a table, defaults filled in. Keys that begin with `_` are comments.

    `elsewhere` gives the remedy for a name that belongs in another table. Raises DescriptionError with the place, what is
    wrong and what to write.
    """
    known, others = _sorted_out(table, given, where)
    _refuse(table, others, where, elsewhere)
    _require(table, known, where)
    return {key.name: known.get(key.name, key.default) for key in table}


def arguments(table: Sequence[Key], given: Any, where: str, elsewhere: Elsewhere = lambda name: "") -> dict[str, Any]:
    """What is given of a table's keys, under their names, for a constructor that checks the values itself.

    Raises DescriptionError for unknown and missing keys.
    """
    known, others = _sorted_out(table, given, where, values=False)
    _refuse(table, others, where, elsewhere)
    _require(table, known, where)
    return known


def check_values(table: Sequence[Key], values: Mapping[str, Any], where: str) -> None:
    """Raises DescriptionError for the first of a table's keys that has no allowed value in `values`."""
    for key in table:
        value = values[key.name]
        # The short cut is for submissions of 100,000 tasks, which are checked each time they are used.
        if value is not key.default and not is_plain(key, value):
            checked_value(key, value, at(where, key.name))


def _refuse(table: Sequence[Key], others: Iterable[str], where: str, elsewhere: Elsewhere) -> None:
    """DPDispatcher takes no notice of most of these; a file may have had one for years, and so may a program."""
    for name in others:
        names = [each for key in table for each in (key.name, *key.aliases)]
        owner = next((section for section, key in rows({}) if key.name == name), "")
        remedy = f"it is a key of {owner}, and has no effect here: remove it" if owner else ""
        remedy = elsewhere(name) or nearest(name, names) or remedy or f"remove it; known are {', '.join(names)}"
        if os.environ.get(_UNKNOWN_KEYS) != "warn":
            raise DescriptionError(f"unknown key {name!r}", where=where, remedy=remedy)
        log.warning("%s: unknown key %r is left out", where, name)


def _require(table: Sequence[Key], known: Mapping[str, Any], where: str) -> None:
    for key in table:
        if key.default is REQUIRED and key.name not in known:
            raise DescriptionError(f"key {key.name!r} is required", where=where, remedy=f"it is: {key.meaning}")


def check_kwargs(table: Sequence[Key], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`kwargs` of the batch system with these keys: what is given, others too, then defaults as in DPDispatcher."""
    known, _ = _sorted_out(table, given, where)
    names = {alias: key.name for key in table for alias in key.aliases}
    written = {names.get(name, name): value for name, value in given.items() if not str(name).startswith("_")}
    defaults = {key.name: key.default for key in table if key.default is not None or "null" in key.kind}
    return written | {name: value for name, value in defaults.items() if name not in known}


def _sorted_out(
    table: Sequence[Key], given: Any, where: str, *, values: bool = True
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is given of a table's keys, with `values` checked, and the rest, without comments."""
    if not isinstance(given, Mapping):
        raise DescriptionError(f"must be a mapping, not {said(given)}", where=where)
    names = _names(table)
    known: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, value in given.items():
        if str(name).startswith("_"):
            continue
        if name not in names:
            others[str(name)] = value
            continue
        key, place = names[name], at(where, name)
        if key.name in known:
            raise DescriptionError(f"is the same as {key.name!r}, which is given too", where=place)
        known[key.name] = checked_value(key, value, place) if values else value
        if name != key.name:
            log.warning("%s: the name of this key is %s now", place, key.name)
    return known, others


def _names(table: Sequence[Key]) -> dict[str, Key]:
    return {name: key for key in table for name in (key.name, *key.aliases)}


def rows(kwargs: Mapping[str, Sequence[Key]]) -> Iterator[tuple[str, Key]]:
    """(section, key) of all tables, in the order of a page. `kwargs`: the keys of `resources.kwargs` by batch system."""
    for section, table in (
        ("submission", SUBMISSION),
        ("machine", MACHINE),
        *((f"remote_profile ({name})", kind.profile) for name, kind in CONTEXTS.items() if kind.profile),
        ("resources", (*RESOURCES, SYSTEM)),
        ("resources.strategy", STRATEGY),
        *((f"resources.kwargs ({name})", table) for name, table in kwargs.items()),
        ("task", TASK),
        ("task.resources", TASK_RESOURCES),
        ("pilot", PILOT),
        ("allocation", ALLOCATION),
    ):
        for key in table:
            yield section, key
