"""A machine and the way to it as a value: checked, and the same for ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import names, schema
from .schema import DescriptionError, check
from .secrets import without_secrets


@dataclass(frozen=True)
class MachineDescription:
    """A machine and the way to it; the names are those of the classes (`PBS`, `SSHContext`).

    `profile` holds the keys of `remote_profile` as the user gave them, without defaults: those that are missing depend on
    other files (~/.ssh/config). It may hold secrets, so it is not in the repr.
    """

    batch_type: str
    context_type: str
    local_root: str
    remote_root: str | None = None
    clean_asynchronously: bool = False
    create_remote_root: bool = False
    profile: Mapping[str, Any] = field(default_factory=dict, repr=False)
    retry_count: int = 3


def parse_machine(mapping: Any, where: str = "machine") -> MachineDescription:
    """Raises DescriptionError."""
    given = check(schema.MACHINE, mapping, where)
    context = names.context_type(given["context_type"], f"{where}.context_type")
    if schema.context_kind(context).has_root and not given["remote_root"]:
        raise DescriptionError("key 'remote_root' is required", where=where, remedy="give the folder on the machine")
    return MachineDescription(
        batch_type=names.batch_type(given["batch_type"], f"{where}.batch_type"),
        context_type=context,
        local_root=given["local_root"],
        remote_root=given["remote_root"],
        clean_asynchronously=given["clean_asynchronously"],
        create_remote_root=given["create_remote_root"],
        profile=_profile(context, given["remote_profile"], f"{where}.remote_profile"),
        retry_count=given["retry_count"],
    )


def _profile(context: str, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What is given, checked; without comments."""
    table = schema.context_kind(context).profile
    if table is None:
        return {name: value for name, value in given.items() if not str(name).startswith("_")}
    known = check(table, given, where)
    return {name: known[name] for name in known if name in given}


def machine_to_dict(machine: MachineDescription, *, secrets: bool = False) -> dict[str, Any]:
    """Without `secrets` the values of secret keys are left out; references to where they are (`env:NAME`) stay."""
    table = schema.context_kind(machine.context_type).profile or ()
    profile = dict(machine.profile)
    for name in () if secrets else [key.name for key in table if key.secret and profile.get(key.name)]:
        profile[name] = without_secrets(profile[name])
        if not profile[name]:
            del profile[name]
    if machine.context_type == "LocalContext":
        profile = {"symlink": True} | profile
    written: dict[str, Any] = {
        "batch_type": machine.batch_type,
        "context_type": machine.context_type,
        "local_root": machine.local_root,
        "remote_root": machine.remote_root,
        "clean_asynchronously": machine.clean_asynchronously,
    }
    if machine.context_type == "SSHContext":
        written["create_remote_root"] = machine.create_remote_root
    return written | {"remote_profile": profile, "retry_count": machine.retry_count}
