"""The JSON Schema of a job description, for editors, for the page of keys, and for programs that write job files.

`describe` decides what is accepted, with rules that no schema can say (what goes together, what fits the kernel); a test
holds that both know the same members, and that neither refuses what the other's examples contain.
"""

from __future__ import annotations

from typing import Any

from ..model.execution_models import MODEL_OPTIONS
from ..model.resources import NO_RESOURCE_NAMES
from .describe_resources import PLACEMENTS

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_TEXT: Schema = {"type": ["string", "null"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_SCALAR: Schema = {"type": ["string", "number", "boolean", "null"]}
_COLUMN: Schema = {
    "anyOf": [
        {"type": "array", "items": _SCALAR},
        {
            "type": "object",
            "properties": {name: {"type": "integer"} for name in ("start", "stop", "step")},
            "required": ["stop"],
            "additionalProperties": False,
        },
    ]
}


def _size(meaning: str) -> Schema:
    """A number of cores or nodes."""
    bounds: Schema = dict.fromkeys(("exact", "min", "max"), _COUNT)
    scheduler = _object(
        {
            "name": {"enum": ["maximum-iters", "split-into"]},
            "params": {
                "type": ["object", "null"],
                "description": "for split-into: {parts: N}, the number of iterations",
            },
        },
        "Spread what there is over the iterations of the job.",
    )
    return {
        "anyOf": [_COUNT, _object({**bounds, "scheduler": scheduler}, ""), {"type": "null"}],
        "description": meaning,
    }


def _text(meaning: str) -> Schema:
    return {**_TEXT, "description": meaning}


def _object(properties: Schema, meaning: str, required: tuple[str, ...] = ()) -> Schema:
    described = {"description": meaning} if meaning else {}
    needed = {"required": list(required)} if required else {}
    return {"type": ["object", "null"], **described, "properties": properties, **needed, "additionalProperties": False}


EXECUTION = _object(
    {
        "exec": _text("the program, started without a shell; this or `script`"),
        "args": {"type": ["array", "null"], "description": "its arguments; numbers are written as text"},
        "script": _text("lines for bash, instead of `exec`"),
        "env": {
            "type": ["object", "null"],
            "additionalProperties": {"type": "string"},
            "description": "environment variables of the task",
        },
        "wd": _text("working folder, relative to the pilot's --wd; made when missing. Default: the pilot's"),
        "stdin": _text("file, relative to `wd`. Default: /dev/null"),
        "stdout": _text("file, relative to `wd`; its folders are made. Default: /dev/null"),
        "stderr": _text("file, relative to `wd`; its folders are made. Default: /dev/null"),
        "modules": {
            "type": ["string", "array", "null"],
            "items": {"type": "string"},
            "description": "environment modules, loaded before the program starts",
        },
        "venv": _text("virtual environment that is entered before the program starts"),
        "model": _text(f"how the program is started on its cores: {', '.join(MODEL_OPTIONS)}. Default: default"),
        "model_opts": {
            "type": ["object", "null"],
            "description": "options of the model: "
            + ", ".join(sorted({option for options in MODEL_OPTIONS.values() for option in options})),
        },
        "stream": {"type": ["boolean", "null"], "description": "output that has no file goes into the run's streams"},
        "calls": {
            "type": ["object", "null"],
            "description": "for programs: each task is the call of a Python function (docs/executor.md)",
        },
    },
    "What is run, where, and with what.",
)

NAMED: Schema = {
    "type": ["integer", "number", "string", "null"],
    "description": "how much of a named resource, of each node or of the pilot as a whole: a number, bytes as 400G, or part "
    "of one thing, 0.25 or 1/3",
}

RESOURCES = _object(
    {
        "numCores": _size("cores of a task: a number, or {exact}, or {min, max}. Default: 1"),
        "numNodes": _size("nodes of a task; with numCores these are per node, alone the nodes are taken whole"),
        "wt": {
            "type": ["string", "integer", "null"],
            "description": "wall time limit, e.g. 1h30m, 90s or HH:MM:SS. Default: none",
        },
        "min_time": {
            "type": ["string", "integer", "null"],
            "description": "starts only where that much time is left; default: wt. What the end stops waits again",
        },
        "mem": {
            "type": ["string", "integer", "null"],
            "description": "memory of the task on each of its nodes, e.g. 2G; counted and enforced. Default: not limited",
        },
        "tags": {
            "type": ["string", "array", "null"],
            "items": {"type": "string"},
            "description": "words that all its nodes must have",
        },
        "gpu": {
            "type": ["integer", "number", "string", "null"],
            "description": "GPUs on each node; or part of one, 0.25 or 1/3, which other tasks may share. Default: none",
        },
        "placement": {
            "type": ["string", "null"],
            "enum": [*PLACEMENTS, None],
            "description": "compact: close together; scatter: where most is free, and far from each other; exclusive: no other "
            "task on its nodes; socket, numa: whole ones. Default: compact",
        },
        "apart": {
            "type": ["boolean", "string", "null"],
            "description": "true: no two tasks of the job on one node at a time; a word: none of all tasks that have it",
        },
        "weight": {
            "type": ["number", "null"],
            "exclusiveMinimum": 0,
            "description": "of alternatives: how much it is liked; what is liked most is given if it is free. Default: 1",
        },
        "nodeCrs": _object(
            {
                "gpu": {"type": ["integer", "number", "string", "null"], "description": "as `gpu`"},
                "mem": {
                    "type": ["integer", "string", "null"],
                    "description": "memory on each node; a number is in MiB",
                },
            },
            "Resources on each node.",
        ),
    },
    "What a task needs. Default: one core.",
) | {"additionalProperties": NAMED}
RESOURCES["propertyNames"] = {
    "anyOf": [
        {"enum": [*RESOURCES["properties"]]},
        {"pattern": "^[a-z][a-z0-9_]{0,63}$", "not": {"enum": sorted(NO_RESOURCE_NAMES)}},
    ]
}

ITERATION = _object(
    {
        "start": {"type": ["integer", "null"], "description": "first index. Default: 0"},
        "stop": {"type": ["integer", "null"], "description": "the index after the last one"},
        "values": {"type": ["array", "null"], "description": "one task for each, which has it as ${itval}"},
        "params": {
            "anyOf": [
                {"type": "array", "items": {"type": "object", "additionalProperties": _SCALAR}},
                {"type": "object", "additionalProperties": _COLUMN},
                {"type": "null"},
            ],
            "description": "a table of named parameters: an array of rows, or a column for each name",
        },
        "grid": {
            "anyOf": [{"type": "object", "additionalProperties": _COLUMN}, {"type": "null"}],
            "description": "some values for each name; a task for each combination, the last name changing fastest",
        },
    },
    "Makes a job many tasks: `stop`, `values`, or `params` and `grid`.",
)

DEPENDENCIES = _object(
    {
        "after": {
            "type": ["array", "null"],
            "items": {"type": "string"},
            "description": "JOB, JOB:3, or JOB:${it} for the same index; all must have succeeded",
        }
    },
    "What must have succeeded before.",
)

_FACTOR: Schema = {"type": "number", "minimum": 1, "maximum": 1000}


def _one_or_more(schema: Schema, meaning: str) -> Schema:
    return {"anyOf": [schema, {"type": "array", "items": schema}, {"type": "null"}], "description": meaning}


RETRY: Schema = _object(
    {
        "codes": _one_or_more({"type": "integer"}, "exit codes it is about; -9: ended by signal 9"),
        "reasons": _one_or_more({"type": "string", "minLength": 1}, "words in the reasons it is about"),
        "times": {"type": "integer", "minimum": 1, "description": "how often a task is started again. Default: 1"},
        "pause": {"type": ["string", "null"], "description": "how long to wait before: 30s, 5m"},
        "mem": {**_FACTOR, "description": "how many times the memory of the attempt that failed"},
        "wt": {**_FACTOR, "description": "how many times the wall time of the attempt that failed"},
    },
    "What is done with certain failures.",
) | {"type": "object"}

JOB: Schema = {
    "title": "Job",
    "type": "object",
    "properties": {
        "name": {
            "type": "string",
            "minLength": 1,
            "description": "unique; no white space, quotes, colon, or any of $ { } ( )",
        },
        "execution": EXECUTION,
        "resources": {
            "anyOf": [RESOURCES, {"type": "array", "minItems": 1, "items": RESOURCES}],
            "description": "what a task needs; an array of alternatives: what is free first is given. Default: one core",
        },
        "iteration": ITERATION,
        "dependencies": DEPENDENCIES,
        "priority": {"type": "integer", "description": "higher starts first. Default: 0"},
        "retries": {**_COUNT, "description": "how often a failed task is started again. Default: 0"},
        "retry": {
            "anyOf": [RETRY, {"type": "array", "items": RETRY}, {"type": "null"}],
            "description": "a rule for certain failures, or an array of them: {codes, reasons, times, pause, mem, wt}",
        },
        "attributes": {"type": ["object", "null"], "description": "yours; kept, and shown by info"},
    },
    "required": ["name", "execution"],
    "additionalProperties": False,
}


def job_file_schema() -> Schema:
    """Of the files that `pilotfish run` and `pilotfish submit` read: one job, an array of jobs, or `{jobs: [...]}`."""
    jobs = {"type": "array", "items": {"$ref": "#/$defs/job"}}
    allocations = {
        "type": "array",
        "items": {"type": "object"},
        "description": "Of a file for `pilotfish run`: which allocations the queue may ask for; keys as of `allocation`.",
    }
    whole = {"type": "object", "properties": {"jobs": jobs, "allocations": allocations}, "required": ["jobs"]}
    return {
        "$schema": DRAFT,
        "title": "Pilotfish job file",
        "anyOf": [jobs, whole, {"$ref": "#/$defs/job"}],
        "$defs": {"job": JOB},
    }


def rows() -> list[tuple[str, str, str, str]]:
    """(section, key, type, meaning) of all keys, in the order of a page."""
    found: list[tuple[str, str, str, str]] = []
    sections = (("", JOB), ("execution", EXECUTION), ("resources", RESOURCES), ("iteration", ITERATION))
    for section, schema in (*sections, ("dependencies", DEPENDENCIES)):
        for key, member in schema["properties"].items():
            found.append((section, key, type_of(member), member.get("description", "")))
        if section == "resources":
            found.append((section, "NAME", type_of(NAMED), NAMED["description"]))
    return found


def type_of(schema: Schema) -> str:
    """The types of a value in the words of JSON, e.g. `string or array`; without null, which is the same as leaving it out."""
    if "anyOf" in schema:
        names = [type_of(choice) for choice in schema["anyOf"]]
    else:
        names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    return " or ".join(dict.fromkeys(name for name in names if name not in ("null", "")))
