"""A class for each context: `SSHContext(...)` makes one, and `isinstance(machine.context, SSHContext)` asks for one.

They are BoundContexts with another constructor. What a context is, its machine says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ...description import arguments, schema
from ...description.machine import parse_machine
from ...submission.bound_context import BoundContext

_ANY = "Shell"
"""A context knows no batch system, but a machine file has one."""


class _ByContextType(type):
    """Of classes whose instances are all contexts with their `_context_type`; with an empty one, all contexts."""

    _context_type: str

    def __instancecheck__(cls, instance: object) -> bool:
        if "_context_type" not in vars(cls):  # derived from one of these by somebody else
            return super().__instancecheck__(instance)
        return isinstance(instance, BoundContext) and cls._context_type in ("", instance.context_type)


class BaseContext(BoundContext, metaclass=_ByContextType):
    """A context of the kind that `context_type` says."""

    options = {kind.name for kind in schema.CONTEXTS.values()}
    _context_type: ClassVar[str] = ""

    def __init__(
        self,
        local_root: str = ".",
        remote_root: str | None = None,
        remote_profile: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        given = {"local_root": local_root, "remote_root": remote_root, "remote_profile": dict(remote_profile or {})}
        kind = {"context_type": self._context_type} if self._context_type else {}
        if type(self).__name__ in self.subclasses_dict and not kind:  # all that it does not do is done here
            kind = {"context_type": "LazyLocal" if remote_root is None else "Local"}
        super().__init__(parse_machine({"batch_type": _ANY, **given, **kind, **more}))

    @classmethod
    def load_from_dict(cls, context_dict: Mapping[str, Any]) -> BoundContext:
        """Of the keys of a machine; its `batch_type` may be missing."""
        return BoundContext(parse_machine({"batch_type": _ANY, **context_dict}))

    @classmethod
    def machine_arginfo(cls) -> Any:
        """What a machine with this context has besides the keys of all machines."""
        return arguments.tree(arguments.context(cls._context_type), dict)

    @classmethod
    def machine_subfields(cls) -> list[Any]:
        """The mappings that a machine with this context has besides."""
        return [arguments.tree(branch, dict) for branch in arguments.context(cls._context_type).below.values()]


class LocalContext(BaseContext):
    """A folder of its own on this machine."""

    _context_type = "LocalContext"


class LazyLocalContext(BaseContext):
    """The project's own folder on this machine."""

    _context_type = "LazyLocalContext"


class SSHContext(BaseContext):
    """Another machine, by SSH."""

    _context_type = "SSHContext"


class HDFSContext(BaseContext):
    """Hadoop's file system, for containers of YARN."""

    _context_type = "HDFSContext"


class BohriumContext(BaseContext):
    """Bohrium's service, with email and password."""

    _context_type = "BohriumContext"


class OpenAPIContext(BaseContext):
    """Bohrium's newer service, with an access key."""

    _context_type = "OpenAPIContext"


DpCloudServerContext = LebesgueContext = BohriumContext
