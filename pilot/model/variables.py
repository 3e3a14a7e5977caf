from __future__ import annotations
from collections.abc import Mapping
from dataclasses import replace
from string import Template
from .job import Execution

def substitute(text: str, values: Mapping[str, str]) -> str:
    return Template(text).safe_substitute(values)

def has_variables(e: Execution) -> bool:
    return "$" in repr(e)

def substitute_execution(e: Execution, values: Mapping[str, str]) -> Execution:
    s = lambda t: None if t is None else substitute(t, values)
    return replace(e, exec=s(e.exec), args=tuple(map(s, e.args)), script=s(e.script), env={k: s(v) for k, v in e.env.items()}, wd=s(e.wd), stdin=s(e.stdin), stdout=s(e.stdout), stderr=s(e.stderr))
