"""`sinfo`: the nodes of the pilot, all in one partition (or in each that was named)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ...machines import slurm_facts
from .arguments import read
from .desk import Answer, Call, Desk, version
from .errors import Refusal
from .options import Value, flags, granted, refused, valued
from .others import hosts
from .request import Node
from .squeue import check_cluster

TABLE = [
    *flags("dead/d help json list-reasons/R long/l Node/N noheader/h responding/r summarize/s usage version/V"),
    *granted("all/a exact/e federation hide local noconvert verbose/v"),
    *valued("clusters/M format/o Format/O nodes/n partition/p sort/S states/t"),
    *refused("iterate/i", "ask again instead"),
    *refused("reservation/T", "a pilot has no reservations", Value.NONE),
    *refused("yaml", "ask for --json", Value.NONE),
]


class Line(NamedTuple):
    """Nodes of a partition that are in one state; `used`: cores, of all of them."""

    partition: str
    default: bool
    state: str
    nodes: tuple[Node, ...]
    used: int

    def span(self, values: Sequence[int]) -> str:
        return f"{min(values)}+" if len(set(values)) > 1 else str(values[0]) if values else "0"

    @property
    def cores(self) -> int:
        return sum(node.cores for node in self.nodes)


def _cpus(line: Line) -> str:
    away = line.cores if line.state == "down" else 0
    return f"{line.used}/{line.cores - line.used - away}/{away}/{line.cores}"


def _gres(line: Line) -> str:
    gpus = max((node.gpus for node in line.nodes), default=0)
    return f"gpu:{gpus}" if gpus else "(null)"


_SHORT_STATES = {"idle": "idle", "mixed": "mix", "allocated": "alloc", "down": "down", "unknown": "unk"}

_COLUMNS: Mapping[str, tuple[str, str, Callable[[Line], str]]] = {
    "P": ("partition", "PARTITION", lambda line: line.partition + ("*" if line.default else "")),
    "R": ("partitionname", "PARTITION", lambda line: line.partition),
    "a": ("available", "AVAIL", lambda line: "up"),
    "l": ("time", "TIMELIMIT", lambda line: "infinite"),
    "L": ("defaulttime", "DEFAULTTIME", lambda line: "n/a"),
    "D": ("nodes", "NODES", lambda line: str(len(line.nodes))),
    "t": ("statecompact", "STATE", lambda line: _SHORT_STATES[line.state]),
    "T": ("statelong", "STATE", lambda line: line.state),
    "N": ("nodelist", "NODELIST", lambda line: slurm_facts.hostlist(node.name for node in line.nodes)),
    "n": ("nodehost", "HOSTNAMES", lambda line: slurm_facts.hostlist(node.name for node in line.nodes)),
    "c": ("cpus", "CPUS", lambda line: line.span([node.cores for node in line.nodes])),
    "m": ("memory", "MEMORY", lambda line: line.span([node.mem_mib or 1 for node in line.nodes])),
    "e": ("freemem", "FREE_MEM", lambda line: line.span([node.mem_mib or 1 for node in line.nodes])),
    "f": ("features", "AVAIL_FEATURES", lambda line: "(null)"),
    "b": ("features_act", "ACTIVE_FEATURES", lambda line: "(null)"),
    "G": ("gres", "GRES", _gres),
    "C": ("cpusstate", "CPUS(A/I/O/T)", _cpus),
    "A": (
        "nodeai",
        "NODES(A/I)",
        lambda line: f"{len(line.nodes)}/0" if line.state in ("mixed", "allocated") else f"0/{len(line.nodes)}",
    ),
    "F": ("nodeaiot", "NODES(A/I/O/T)", lambda line: _nodes_by_use(line)),
    "E": ("reason", "REASON", lambda line: "none"),
    "d": ("disk", "TMP_DISK", lambda line: "0"),
    "w": ("weight", "WEIGHT", lambda line: "1"),
    "z": ("socketcorethread", "S:C:T", lambda line: f"1:{line.span([node.cores for node in line.nodes])}:1"),
    "X": ("sockets", "SOCKETS", lambda line: "1"),
    "Y": ("cores", "CORES", lambda line: line.span([node.cores for node in line.nodes])),
    "Z": ("threads", "THREADS", lambda line: "1"),
    "s": ("size", "JOB_SIZE", lambda line: "1-infinite"),
    "r": ("root", "ROOT", lambda line: "no"),
    "g": ("groups", "GROUPS", lambda line: "all"),
    "h": ("oversubscribe", "OVERSUBSCRIBE", lambda line: "NO"),
    "I": ("priorityjobfactor", "PRIO_JOB_FACTOR", lambda line: "1"),
    "u": ("user", "USER", lambda line: "unknown"),
    "H": ("timestamp", "TIMESTAMP", lambda line: "Unknown"),
    "V": ("cluster", "CLUSTER", lambda line: "N/A"),
}


def _nodes_by_use(line: Line) -> str:
    count = len(line.nodes)
    places = [
        count if line.state in states else 0 for states in (("mixed", "allocated"), ("idle",), ("down", "unknown"))
    ]
    return "/".join(map(str, [*places, count]))


_SHORT = "%#P %.5a %.10l %.6D %.6t %N"
_LONG = "%#P %.5a %.10l %.10s %.4r %.8h %.10g %.6D %.11T %N"
_NODES = "%#N %.6D %#P %6t"
_NODES_LONG = "%#N %.6D %#P %.11T %.4c %.8z %.6m %.8d %.6w %.8f %20E"
_SUMMARY = "%#P %.5a %.10l %.16F  %N"
_FIELD = re.compile(r"%([.#]*)(\d*)([A-Za-z%])")


def sinfo(desk: Desk, call: Call) -> Answer:
    values, rest = read("sinfo", call.words, TABLE)
    if "version" in values:
        return version("sinfo")
    if "help" in values or "usage" in values:
        return Answer("Usage: sinfo [OPTIONS]\nAnswered by a pilot (pilotfish as slurm).\n")
    if rest:
        raise Refusal(f"sinfo: error: Unrecognized option: {rest[0]}")
    check_cluster("sinfo", values.get("clusters"), desk)
    form = values.get("format") or call.environ.get("SINFO_FORMAT") or _usual(values)
    long = values.get("Format")
    letters = {match[3] for match in _FIELD.finditer(form)} if not long else set()
    each = "Node" in values or bool(letters & {"n"})
    lines = _lines(desk, values, each, letters, "summarize" in values)
    if "json" in values:
        return Answer(_json(desk))
    if long:
        table = [_by_names(long, line) for line in lines]
        heading = _by_names(long, None)
    else:
        widths = {
            letter: max([len(_COLUMNS[letter][2](line)) for line in lines] + [10 if letter == "N" else 9])
            for letter in "PN"
        }
        table = [_by_letters(form, line, widths) for line in lines]
        heading = _by_letters(form, None, widths)
    if letters <= {"P", "R", "a", "l", "L"} and not long:
        table = list(dict.fromkeys(table))
    head = [] if "noheader" in values else [heading]
    if "long" in values and head:
        head.insert(0, slurm_facts.moment(desk.now(), form="%a %b %d %H:%M:%S %Y"))
    return Answer("".join(f"{line}\n" for line in [*head, *table]))


def _usual(values: Mapping[str, str]) -> str:
    if "list-reasons" in values:
        return "%20E %9u %19H %N"
    if "summarize" in values:
        return _SUMMARY
    if "Node" in values:
        return _NODES_LONG if "long" in values else _NODES
    return _LONG if "long" in values else _SHORT


def state_of(node: Node, used: int, pilots: str) -> str:
    """`pilots`: the state of the node at the pilot."""
    if pilots in ("LOST", "GIVEN_UP", "LEFT", "RESTARTING", "SILENT", "DISMISSED"):
        return "down"
    return "idle" if not used else "allocated" if used >= node.cores else "mixed"


def _lines(desk: Desk, values: Mapping[str, str], each: bool, letters: set[str], summary: bool) -> list[Line]:
    used = desk.used()
    wanted = [name for name in values.get("partition", "").split(",") if name] or list(desk.site.partitions)
    states = {word.lower() for word in values["states"].split(",")} if "states" in values else None
    found = []
    for partition in desk.site.partitions:
        if partition not in wanted:
            continue
        groups: dict[object, list[Node]] = {}
        for place, node in enumerate(desk.site.nodes):
            if "nodes" in values and node.name not in hosts(values["nodes"]):
                continue
            cores, _, _, pilots = used.get(node.name, (0, 0, 0, "READY"))
            state = state_of(node, cores, pilots)
            if states is not None and not {state, _SHORT_STATES[state]} & states:
                continue
            if ({"dead", "list-reasons"} & values.keys() and state != "down") or (
                "responding" in values and state == "down"
            ):
                continue
            apart = place if each else (node.gpus if "G" in letters else None)
            groups.setdefault((state if not summary and not letters & {"A", "F"} else "", apart), []).append(node)
        for (_, _), nodes in ((key, nodes) for key, nodes in groups.items() if isinstance(key, tuple)):
            cores = sum(used.get(node.name, (0, 0, 0, ""))[0] for node in nodes)
            first = nodes[0]
            state = state_of(first, *_first(used.get(first.name, (0, 0, 0, "READY"))))
            found.append(Line(partition, partition == desk.site.partitions[0], state, tuple(nodes), cores))
    return found


def _first(used: tuple[int, int, int, str]) -> tuple[int, str]:
    return used[0], used[3]


def _by_letters(form: str, line: Line | None, widths: Mapping[str, int]) -> str:
    def fill(match: re.Match[str]) -> str:
        if match[3] == "%":
            return "%"
        if match[3] not in _COLUMNS:
            raise Refusal(f"sinfo: error: Invalid node format specification: {match[3]}")
        _, heading, value = _COLUMNS[match[3]]
        text = heading if line is None else value(line)
        width = widths.get(match[3], 0) if "#" in match[1] else int(match[2] or 0)
        if not width:
            return text
        text = text[:width]
        return text.rjust(width) if "." in match[1] else text.ljust(width)

    return _FIELD.sub(fill, form)


def _by_names(text: str, line: Line | None) -> str:
    by_name = {name: (heading, value) for name, heading, value in _COLUMNS.values()}
    parts = []
    for word in filter(None, text.split(",")):
        name, _, size = word.strip().partition(":")
        if name.lower() not in by_name or not (size or "20").lstrip(".-").isdigit():
            raise Refusal(f"sinfo: error: Invalid node format specification: {name}")
        heading, value = by_name[name.lower()]
        width = int((size or "20").lstrip(".-"))
        shown = (heading if line is None else value(line))[:width]
        parts.append(shown.rjust(width) if size.startswith(".") else shown.ljust(width))
    return "".join(parts)


def _json(desk: Desk) -> str:
    used = desk.used()
    nodes = []
    for node in desk.site.nodes:
        cores, _, memory, pilots = used.get(node.name, (0, 0, 0, "READY"))
        nodes.append(
            {
                "name": node.name,
                "hostname": node.name,
                "state": state_of(node, cores, pilots),
                "cpus": node.cores,
                "alloc_cpus": cores,
                "idle_cpus": node.cores - cores,
                "real_memory": node.mem_mib,
                "alloc_memory": memory,
                "gres": f"gpu:{node.gpus}" if node.gpus else "",
                "partitions": list(desk.site.partitions),
            }
        )
    return (
        json.dumps({"meta": {"Slurm": {"release": slurm_facts.VERSION}}, "errors": [], "nodes": nodes}, indent=2) + "\n"
    )
