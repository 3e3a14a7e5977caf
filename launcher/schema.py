"""The keys of machine, resources, task and submission files: one table, from which checking, help and `pilotfish init` come.

Names, types and defaults are DPDispatcher's (spec 2); the keys marked `ours` are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ..pilot.model.errors import UsageError


class DescriptionError(UsageError):
    """A machine, resources, task or submission description breaks a rule; `where` is the path of the key."""

    code = "description"


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED = _Required()


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        kind: `str`, `int`, `float`, `bool`, `dict`, `list[str]`, `list[dict]`; with `|null` where null is allowed.
        ours: not a key of DPDispatcher; left out of what is written when it has its default.
    """

    name: str
    kind: str
    default: Any
    meaning: str
    aliases: tuple[str, ...] = ()
    ours: bool = False
    secret: bool = False


MACHINE = (
    Key("batch_type", "str", REQUIRED, "the batch system: Slurm, PBS, Torque, LSF, SGE, Shell ...", ("machine_type",)),
    Key("context_type", "str", REQUIRED, "how to reach it: Local, LazyLocal or SSH"),
    Key("local_root", "str", REQUIRED, "the project's folder here; `work_base` is below it"),
    Key("remote_root", "str|null", None, "the folder on the machine below which each submission has its own"),
    Key("clean_asynchronously", "bool", False, "do not wait until the submission's folder is removed"),
    Key("create_remote_root", "bool", False, "taken for DPDispatcher's files: missing folders are always made"),
    Key("remote_profile", "dict", {}, "how to log in"),
    Key("retry_count", "int", 3, "how often a job that failed is placed again"),
)

LOCAL_PROFILE = (Key("symlink", "bool", True, "link inputs into the submission's folder instead of copying them"),)

SSH_PROFILE = (
    Key("hostname", "str", REQUIRED, "the host, or an alias of ~/.ssh/config"),
    Key("username", "str|null", None, "the user there; default: of ~/.ssh/config, else yours"),
    Key("password", "str|null", None, "better `env:NAME`, `file:PATH`, `keyring:SERVICE/USER` or `ask:`", secret=True),
    Key("port", "int|null", None, "default: of ~/.ssh/config, else 22"),
    Key("key_filename", "str|null", None, "the private key"),
    Key("passphrase", "str|null", None, "of the private key; may be a reference like `password`", secret=True),
    Key("timeout", "float", 10, "seconds to wait for a connection"),
    Key("totp_secret", "str|null", None, "base32 secret of the second factor; may be a reference", secret=True),
    Key("tar_compress", "bool", True, "compress what is transferred"),
    Key("look_for_keys", "bool", True, "try the keys of the agent and in ~/.ssh"),
    Key("execute_command", "str|null", None, "run after each connect"),
    Key("proxy_command", "str|null", None, "a command whose input and output are the connection"),
    Key("archive_chunk_size", "int", 0, "bytes of one part of a download; 0: in one piece"),
    Key("jump", "str|null", None, "hosts to go through: USER@HOST:PORT, comma between them", ours=True),
    Key("accept_new", "bool", False, "accept and remember the key of a host never seen before", ours=True),
    Key("known_hosts", "str|null", None, "file of known host keys besides ~/.ssh/known_hosts", ours=True),
    Key("ssh_config", "str|null", None, "configuration file; default ~/.ssh/config", ours=True),
    Key("keepalive", "float", 30, "seconds between signs of life", ours=True),
    Key("reconnect_for", "float", 600, "seconds to go on trying when the connection is lost", ours=True),
)

STRATEGY = (
    Key("if_cuda_multi_devices", "bool", False, "give each running task a GPU of its own"),
    Key("ratio_unfinished", "float", 0.0, "cancel the rest when at most this share of the tasks is left; 0 <= r < 1"),
    Key("customized_script_header_template_file", "str|null", None, "a file that replaces the header of the script"),
)

RESOURCES = (
    Key("number_node", "int", 1, "nodes of one job"),
    Key("cpu_per_node", "int", 1, "cores on each of them"),
    Key("gpu_per_node", "int", 0, "GPUs on each of them"),
    Key("queue_name", "str", "", "queue or partition; empty: the default one"),
    Key("group_size", "int", REQUIRED, "tasks of one job; 0: all in one"),
    Key("custom_flags", "list[str]", [], "lines that go below the header as they are"),
    Key("strategy", "dict", {}, "how the tasks of a job are run"),
    Key("para_deg", "int", 1, "tasks of a job that run at the same time"),
    Key("module_purge", "bool", False, "`module purge` first"),
    Key("module_unload_list", "list[str]", [], "modules to unload"),
    Key("module_list", "list[str]", [], "modules to load"),
    Key("source_list", "list[str]", [], "scripts to source, with their arguments"),
    Key("envs", "dict", {}, "environment variables; of a list each value in turn"),
    Key("prepend_script", "list[str]", [], "shell lines before the tasks"),
    Key("append_script", "list[str]", [], "shell lines after the tasks"),
    Key("wait_time", "float", 0, "seconds to wait after each submit"),
    Key("kwargs", "dict", {}, "keys of one batch system"),
    Key("walltime", "str|float|null", None, "time limit of a job: 1h30m, HH:MM:SS, or seconds", ours=True),
    Key("account", "str|null", None, "account or project to be charged", ours=True),
    Key("qos", "str|null", None, "quality of service", ours=True),
    Key("memory", "str|int|null", None, "memory on each node: 4G, 500M, or MiB", ours=True),
    Key("exclusive", "bool", False, "nodes for this job alone", ours=True),
    Key("reservation", "str|null", None, "a reservation to run in", ours=True),
    Key("dependency", "list[str]", [], "ids of batch jobs that must have ended well", ours=True),
    Key("max_jobs", "int|null", None, "jobs of the submission in the queue at the same time", ours=True),
)

TASK = (
    Key("command", "str", REQUIRED, "shell text"),
    Key("task_work_path", "str", REQUIRED, "the task's folder below `work_base`"),
    Key("forward_files", "list[str]", [], "patterns of files that go to the machine"),
    Key("backward_files", "list[str]", [], "patterns of files that come back"),
    Key("outlog", "str|null", "log", "file for standard output"),
    Key("errlog", "str|null", "err", "file for standard error"),
    Key("task_name", "str|null", None, "name shown by the batch system when the job has this task only"),
    Key("resources", "dict|null", None, "of a pilot's task: cores, nodes, gpus, memory, wt", ours=True),
    Key("dependencies", "list[str]", [], "of a pilot's task: names of tasks that come first", ours=True),
    Key("iteration", "dict|null", None, "of a pilot's task: {start, stop} or {values}", ours=True),
    Key("retries", "int", 0, "of a pilot's task: starts after a failed one", ours=True),
)

TASK_RESOURCES = (
    Key("cores", "int", 1, "cores, on each node when `nodes` is given", ours=True),
    Key("nodes", "int|null", None, "nodes", ours=True),
    Key("gpus", "int", 0, "GPUs on each node", ours=True),
    Key("memory", "str|int|null", None, "memory on each node: 4G, 500M, or MiB", ours=True),
    Key("wt", "str|float|null", None, "time limit: 1h30m, HH:MM:SS, or seconds", ours=True),
)

PILOT = (
    Key("pilots", "int", 1, "allocations at the same time, whose nodes share one queue", ours=True),
    Key("max_allocations", "int", 10, "allocations in all, one after the other, until the work is done", ours=True),
    Key("bootstrap", "str", "auto", "install pilotfish on the machine: auto, never or always", ours=True),
    Key("python", "str|null", None, "a Python on the machine that has, or may get, pilotfish", ours=True),
    Key("wheelhouse", "str|null", None, "folder of wheels here, for machines without a package index", ours=True),
    Key("options", "list[str]", [], "more options for `pilotfish run`", ours=True),
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

_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "dict": (dict,),
    "null": (type(None),),
}


def check(table: Sequence[Key], given: Any, where: str) -> dict[str, Any]:
    """The values of all keys of a table, defaults filled in. Keys that begin with `_` are comments.

    Raises DescriptionError with the place, what is wrong and what to write.
    """
    if not isinstance(given, Mapping):
        raise DescriptionError(f"must be a mapping, not {_said(given)}", where=where)
    names = {name: key for key in table for name in (key.name, *key.aliases)}
    found: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(name, str) and name.startswith("_"):
            continue
        if name not in names:
            raise _unknown(str(name), names, where)
        key = names[name]
        if key.name in found:
            raise DescriptionError(f"is the same as {key.name!r}, which is given too", where=_at(where, name))
        found[key.name] = _checked(key.kind, value, _at(where, name))
    missing = [key.name for key in table if key.default is REQUIRED and key.name not in found]
    if missing:
        raise DescriptionError(
            f"key {missing[0]!r} is required", where=where, remedy=f"it is: {_meaning(table, missing[0])}"
        )
    return {key.name: found.get(key.name, key.default) for key in table}


def _checked(kind: str, value: Any, where: str) -> Any:
    """The value when it is of that kind."""
    for choice in kind.split("|"):
        if choice.startswith("list["):
            if isinstance(value, list | tuple):
                item = choice[5:-1]
                return [_checked(item, each, f"{where}[{number}]") for number, each in enumerate(value)]
        elif isinstance(value, _TYPES[choice]) and not (isinstance(value, str) and "\0" in value):
            return value
    raise DescriptionError(f"{_said(value)} is not {_spoken(kind)}", where=where)


def _spoken(kind: str) -> str:
    words = {
        "str": "a text",
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "dict": "a mapping",
        "null": "null",
        "list[str]": "a list of texts",
        "list[dict]": "a list of mappings",
    }
    return " or ".join(words[choice] for choice in kind.split("|"))


def nearest(word: str, known: Iterable[str]) -> str:
    """What the writer may have meant, as a remedy; empty when nothing is near."""
    near = get_close_matches(word, list(known), 1)
    return f"did you mean {near[0]!r}?" if near else ""


def _said(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _at(where: str, name: Any) -> str:
    return f"{where}.{name}" if where else str(name)


def _meaning(table: Sequence[Key], name: str) -> str:
    return next(key.meaning for key in table if key.name == name)


def _unknown(name: str, names: Mapping[str, Key], where: str) -> DescriptionError:
    remedy = nearest(name, names) or f"known are {', '.join(names)}"
    return DescriptionError(f"unknown key {name!r}", where=where, remedy=remedy)


def rows() -> Iterator[tuple[str, Key]]:
    """(section, key) of all tables, in the order of a page."""
    for section, table in (
        ("submission", SUBMISSION),
        ("machine", MACHINE),
        ("remote_profile (SSH)", SSH_PROFILE),
        ("remote_profile (Local)", LOCAL_PROFILE),
        ("resources", RESOURCES),
        ("resources.strategy", STRATEGY),
        ("task", TASK),
        ("task.resources", TASK_RESOURCES),
        ("pilot", PILOT),
    ):
        for key in table:
            yield section, key
