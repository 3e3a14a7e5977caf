"""Contexts by the names that machine files have (`description.schema.CONTEXTS`); each is loaded when it is used."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from ..description.machine import MachineDescription
from ..description.schema import context_kind
from .base import Context


def context_class(name: str) -> type[Context]:
    found: type[Context] = getattr(import_module(f".{context_kind(name).module}", __package__), name)
    return found


def build_context(machine: MachineDescription) -> Context:
    """The way to that machine; nothing is connected yet."""
    kind = context_class(machine.context_type)
    context = kind(Path(machine.local_root).expanduser().absolute(), machine.remote_root, machine.profile)
    context.removes_in_background = machine.clean_asynchronously
    return context
