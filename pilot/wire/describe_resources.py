"""The `resources` object of a job description -> Resources."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from math import inf
from operator import itemgetter
from typing import Any

from ..model.errors import InvalidJobError, UsageError
from ..model.job_spec import IterationScheduler, Need, Placement, Resources, Size, Want
from ..model.resources import APART, GPU, MOST_AMOUNT, PARTS, is_resource_name, is_tag
from ..model.units import parse_bytes
from ..model.walltime import parse
from . import legacy
from .check import check_members, is_count, need_object, need_text, shown

DEFAULT_RESOURCES = Resources()

_MEMBERS = frozenset(
    {"numCores", "numNodes", "wt", "nodeCrs", "mem", "tags", "gpu", "min_time", "weight", "placement", "apart"}
)
_FRACTION = re.compile(r"\s*(\d+/\d+|\d*\.?\d+)\s*", re.ASCII)
PLACEMENTS = {placement.name.lower(): placement for placement in Placement}
_SIZE_MEMBERS = frozenset({"exact", "min", "max", "scheduler"})
_SCHEDULERS = ("maximum-iters", "split-into")
_MIB = 1 << 20
_MOST_ALTERNATIVES = 8
_ONE = Size.exactly(1)


def describe_resources(raw: Any, where: str) -> Resources:
    """An object, or an array of alternatives. Raises InvalidJobError."""
    if isinstance(raw, list):
        return _alternatives(raw, where)
    if isinstance(raw, dict) and raw.get("weight") is not None:
        raise InvalidJobError("there is no alternative", where=f"{where}.weight", remedy="leave it out")
    return _one(raw, where)


def _alternatives(raw: list[Any], where: str) -> Resources:
    """What is liked most goes first; equal weights in the order of the array."""
    if not 0 < len(raw) <= _MOST_ALTERNATIVES:
        remedy = f"write 1 to {_MOST_ALTERNATIVES} objects"
        raise InvalidJobError(f"{len(raw)} alternatives", where=where, remedy=remedy)
    found: list[tuple[float, Resources]] = []
    for number, each in enumerate(raw):
        resources = _one(each, f"{where}[{number}]")
        if resources.scheduler is not None:
            raise InvalidJobError(
                "alternatives cannot have a scheduler", where=f"{where}[{number}]", remedy="use min and max"
            )
        of_first = found[0][1] if found else resources
        for member, mine, its in (
            ("wt", resources.wt_s, of_first.wt_s),
            ("min_time", resources.min_time_s, of_first.min_time_s),
        ):
            if mine != its:
                place = f"{where}[{number}].{member}"
                raise InvalidJobError(
                    "it is another than the first's", where=place, remedy="say the same in all of them"
                )
        found.append((-_weight(each.get("weight"), f"{where}[{number}].weight"), resources))
    found.sort(key=itemgetter(0))
    needs = dict.fromkeys(resources.need for _, resources in found)  # the same once more says nothing
    first, *others = needs
    return replace(found[0][1], need=first, alternatives=tuple(others))


def _weight(raw: Any, where: str) -> float:
    if raw is None:
        return 1.0
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not 0 < raw < inf:
        raise InvalidJobError(
            f"{shown(raw)} is not a weight", where=where, remedy="write a number above 0; without one it is 1"
        )
    return float(raw)


def _one(raw: Any, where: str) -> Resources:
    """Without numCores and numNodes a task gets one core."""
    need_object(raw, where, legacy.RESOURCES_TYPE)
    check_members({name: value for name, value in raw.items() if not _may_be_named(name)}, _MEMBERS, where)
    cores, of_cores = _size(raw.get("numCores"), f"{where}.numCores", "cores")
    nodes, of_nodes = _size(raw.get("numNodes"), f"{where}.numNodes", "nodes")
    if of_cores is not None and of_nodes is not None:
        raise InvalidJobError(
            "only one of numCores and numNodes can have a scheduler", where=where, remedy="leave one of them out"
        )
    # Spec 7.2: cores 0 with nodes means whole nodes, nodes 0 with cores means cores anywhere.
    cores = None if cores is not None and cores.max == 0 and nodes is not None else cores
    nodes = None if nodes is not None and nodes.max == 0 and cores is not None else nodes
    for size, member in ((cores, "numCores"), (nodes, "numNodes")):
        if size is not None and size.min == 0:
            raise InvalidJobError("0 is too few", where=f"{where}.{member}", remedy="ask for at least 1")
    gpus, gpu_parts, mem_bytes = _node_resources(raw.get("nodeCrs"), f"{where}.nodeCrs")
    if raw.get("gpu") is not None:
        if gpus or gpu_parts:
            raise InvalidJobError("GPUs are asked for twice", where=f"{where}.gpu", remedy="leave nodeCrs.gpu out")
        gpus, gpu_parts = _whole_and_parts(raw["gpu"], f"{where}.gpu")
    if raw.get("mem") not in (None, ""):
        mem_bytes = _memory(raw["mem"], f"{where}.mem")
    if cores is None and nodes is None:
        cores = _ONE
    wt_s = _wall_time(raw.get("wt"), f"{where}.wt")
    wants = [_want(name, value, f"{where}.{name}") for name, value in raw.items() if _may_be_named(name)]
    wants += [Want(GPU, 0, gpu_parts)] if gpu_parts else []
    wants += [_apart(raw.get("apart"), f"{where}.apart")]
    named = tuple(sorted(want for want in wants if want is not None))
    return Resources(
        Need(
            cores,
            nodes,
            gpus,
            mem_bytes,
            _tags(raw.get("tags"), f"{where}.tags"),
            named,
            _placement(raw.get("placement"), f"{where}.placement"),
        ),
        wt_s,
        of_cores or of_nodes,
        _least_time(raw.get("min_time"), wt_s, f"{where}.min_time"),
    )


def _may_be_named(name: str) -> bool:
    """Whether a key is that of a named resource, and not one of ours in other letters."""
    return is_resource_name(name) and name not in _MEMBERS


def _want(name: str, raw: Any, where: str) -> Want | None:
    """None: nothing of it."""
    if raw is None:
        return None
    if isinstance(raw, str) and not _FRACTION.fullmatch(raw):
        try:
            amount = parse_bytes(raw)
        except UsageError:
            remedy = 'write a number, "400G", or a part of one: 0.25 or "1/3"'
            raise InvalidJobError(f"{shown(raw)} is not an amount", where=where, remedy=remedy) from None
        whole, parts = amount, 0
    else:
        whole, parts = _whole_and_parts(raw, where)
    return Want(name, whole, parts)


def _apart(raw: Any, where: str) -> Want | None:
    """`true`: from other tasks of the job, whose name is the label then (`with_label`)."""
    if raw is None or raw is False:
        return None
    if raw is not True and not (isinstance(raw, str) and is_tag(raw)):
        remedy = "write true, or a word that others have too"
        raise InvalidJobError(f"{shown(raw)} is not a label", where=where, remedy=remedy)
    return Want(APART if raw is True else f"{APART}{raw}", 1)


def with_label(resources: Resources, job: str) -> Resources:
    """Tasks that are to be apart from others of their job have its name as their label."""
    if not any(want.name == APART for need in resources.needs for want in need.named):
        return resources
    need, *others = (
        replace(
            need,
            named=tuple(want._replace(name=f"{APART}{job}") if want.name == APART else want for want in need.named),
        )
        for need in resources.needs
    )
    return replace(resources, need=need, alternatives=tuple(others))


def _placement(raw: Any, where: str) -> Placement:
    if raw is None:
        return Placement.COMPACT
    if not isinstance(raw, str) or raw not in PLACEMENTS:
        remedy = f"write {', '.join(PLACEMENTS)}"
        raise InvalidJobError(f"{shown(raw)} is not known", where=where, remedy=remedy)
    return PLACEMENTS[raw]


def _whole_and_parts(raw: Any, where: str) -> tuple[int, int]:
    """A whole number, or part of one thing: 0.25, "0.25", "1/4". A number like 0.1 means what it says, and not what it is."""
    try:
        amount = Fraction(str(raw)) if isinstance(raw, (int, float, str)) and not isinstance(raw, bool) else None
    except (ValueError, ZeroDivisionError):
        amount = None
    if amount is None:
        remedy = 'write a number such as 4, or a part of one such as 0.25 or "1/3"'
        raise InvalidJobError(f"{shown(raw)} is not a number", where=where, remedy=remedy)
    if amount <= 0:
        raise InvalidJobError(f"{shown(raw)} is too little", where=where, remedy="ask for some of it, or leave it out")
    if amount.denominator == 1:
        if amount > MOST_AMOUNT:
            raise InvalidJobError(f"{shown(raw)} is more than any machine has", where=where, remedy="ask for less")
        return int(amount), 0
    if amount > 1:
        raise InvalidJobError(
            f"{shown(raw)} is neither whole nor part of one", where=where, remedy="ask for whole ones, or less than one"
        )
    parts = amount * PARTS
    if parts.denominator != 1:
        remedy = 'use at most four decimals, or "1/N" with N up to 10'
        raise InvalidJobError(f"{shown(raw)} is too fine", where=where, remedy=remedy)
    return 0, int(parts)


def _tags(raw: Any, where: str) -> tuple[str, ...]:
    """Words that a node must have, sorted: their order means nothing."""
    if raw in (None, ""):
        return ()
    words = [raw] if isinstance(raw, str) else raw
    if not isinstance(words, list) or not all(isinstance(word, str) and is_tag(word) for word in words):
        raise InvalidJobError(f"{shown(raw)} is not a list of tags", where=where, remedy='write ["gpu", "big"]')
    return tuple(sorted(set(words)))


def _size(raw: Any, where: str, what: str) -> tuple[Size | None, IterationScheduler | None]:
    if raw is None:
        return None, None
    if is_count(raw):
        return Size.exactly(_count(raw, where)), None
    if not isinstance(raw, dict):
        raise InvalidJobError(
            f"{legacy.SIZE_TYPE.format(what)}: {shown(raw)} is not a whole number",
            where=where,
            remedy='write 4 or {"min": 2, "max": 4}',
        )
    check_members(raw, _SIZE_MEMBERS, where)
    bounds = {name: value for name, value in raw.items() if value is not None}
    scheduler = _scheduler(bounds.get("scheduler"), f"{where}.scheduler", what)
    if "exact" in bounds:
        if len(bounds) > 1:
            raise InvalidJobError(legacy.EXACT_AND_RANGE, where=where, remedy="leave out exact, or all the others")
        return Size.exactly(_count(bounds["exact"], f"{where}.exact")), None
    if not bounds:
        raise InvalidJobError(legacy.NO_RESOURCES, where=where, remedy="give exact, or min and max")
    if scheduler is not None and "max" in bounds:
        raise InvalidJobError(
            f"{scheduler.name} directive mixed with max directive",
            where=f"{where}.max",
            remedy="leave max out: the scheduler decides",
        )
    lowest = _count(bounds.get("min", 1), f"{where}.min")
    highest = _count(bounds["max"], f"{where}.max") if "max" in bounds else None
    if highest is not None and highest < lowest:
        raise InvalidJobError(
            f"{highest} is less than min {lowest}", where=f"{where}.max", remedy=f"give at least {lowest}"
        )
    return Size(lowest, highest), scheduler


def _count(raw: Any, where: str) -> int:
    if not is_count(raw):
        raise InvalidJobError(f"{shown(raw)} is not a whole number", where=where, remedy="write a number such as 4")
    if raw < 0:
        raise InvalidJobError(f"{raw} is negative", where=where, remedy="ask for at least 1")
    if raw >= 1 << 31:
        raise InvalidJobError(f"{raw} is more than any machine has", where=where, remedy="ask for less")
    return raw


def _scheduler(raw: Any, where: str, what: str) -> IterationScheduler | None:
    """An object `{name, params?}`, or just its name: the old `Jobs` and the old service disagreed, so both are taken."""
    if raw is None:
        return None
    value = {"name": raw} if isinstance(raw, str) else need_object(raw, where, f"{shown(raw)} is not a scheduler")
    check_members(value, ("name", "params"), where)
    name = need_text(value.get("name"), f"{where}.name").lower()
    if name not in _SCHEDULERS:
        raise InvalidJobError(
            f"{shown(name)} is not known", where=f"{where}.name", remedy=f"use {' or '.join(_SCHEDULERS)}"
        )
    params = need_object(value.get("params") or {}, f"{where}.params", "this must be an object")
    check_members(params, ("parts",), f"{where}.params")
    parts = params.get("parts")
    if parts is not None and (not is_count(parts) or parts < 1):
        raise InvalidJobError(
            f"{shown(parts)} is not a number of parts", where=f"{where}.params.parts", remedy="write a number such as 4"
        )
    return IterationScheduler(name, what == "nodes", parts if name == "split-into" else None)


def _wall_time(raw: Any, where: str) -> float | None:
    if raw is None:
        return None
    try:
        return parse(need_text(raw, where))
    except InvalidJobError:
        raise
    except UsageError as error:
        raise InvalidJobError(error.what, where=where, remedy=error.remedy) from None


def _least_time(raw: Any, wt_s: float | None, where: str) -> float | None:
    least_s = _wall_time(raw, where)
    if least_s is not None and wt_s is not None and least_s > wt_s:
        raise InvalidJobError(f"{shown(raw)} is longer than wt", where=where, remedy="give at most the wall time limit")
    return least_s


def _node_resources(raw: Any, where: str) -> tuple[int, int, int]:
    """(GPUs, parts of one GPU, bytes of memory) per node; names in any case, memory as a number is in MiB."""
    if raw is None:
        return 0, 0, 0
    need_object(raw, where, legacy.CRS_TYPE)
    amounts: dict[str, int] = {}
    gpu_parts = 0
    for name, value in raw.items():
        kind, place = name.lower(), f"{where}.{name}"
        if kind not in ("gpu", "mem"):
            raise InvalidJobError(legacy.CRS_UNKNOWN.format(name), where=place, remedy="known are gpu and mem")
        if kind in amounts:
            raise InvalidJobError(legacy.CRS_TWICE.format(name), where=place, remedy="leave one of them out")
        if kind == "mem" and isinstance(value, str):
            amounts[kind] = _memory(value, place)
            continue
        if kind == "gpu" and isinstance(value, (float, str)):
            amounts[kind], gpu_parts = _whole_and_parts(value, place)
            continue
        if not is_count(value):
            raise InvalidJobError(
                f"{legacy.CRS_NO_NUMBER.format(name)}: {shown(value)}", where=place, remedy="write a number such as 4"
            )
        if value < 1:
            raise InvalidJobError(legacy.CRS_ZERO.format(name), where=place, remedy="ask for at least 1")
        amounts[kind] = _count(value, place) * (_MIB if kind == "mem" else 1)
    return amounts.get("gpu", 0), gpu_parts, amounts.get("mem", 0)


def _memory(raw: Any, where: str) -> int:
    """Text with a unit; a plain number is in MiB, as in nodeCrs."""
    if is_count(raw):
        amount = _count(raw, where) * _MIB
    elif isinstance(raw, str) and raw[-1:].isdecimal():
        raise InvalidJobError(f"{shown(raw)} has no unit", where=where, remedy=f"write {shown(raw[:20] + 'M')}")
    else:
        try:
            amount = parse_bytes(need_text(raw, where))
        except InvalidJobError:
            raise
        except UsageError as error:
            raise InvalidJobError(error.what, where=where, remedy=error.remedy) from None
    if amount < 1:
        raise InvalidJobError(f"{shown(raw)} is too little", where=where, remedy="ask for at least 1K")
    return amount
