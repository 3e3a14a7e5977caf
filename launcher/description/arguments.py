"""The keys of a description as DPDispatcher's `arginfo()` gives them: as text, to check or complete a mapping, as a tree.

Programs put that tree into their own (dpgen, dflow): where `dargs` is installed it is one of dargs, with its errors. Where it
is not, nobody can have a tree to put it into, and our own object does what is asked of a single one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import schema, systems
from .schema import Key

_TYPES: dict[str, tuple[Any, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "dict": (dict,),
    "null": (type(None),),
    "list": (list,),
}


Complete = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Checks a mapping and gives it with all defaults; raises DescriptionError."""


@dataclass(frozen=True)
class Branch:
    """A mapping: its keys, the mappings below them, and the key by whose value others are allowed.

    Attributes:
        below: of those of its keys that are mappings with known keys.
        by: the key that decides between the `choices`; empty: none does.
        choices: by the value of that key, what may stand beside it. Their names are those values.
    """

    name: str
    keys: Sequence[Key]
    below: Mapping[str, Branch] = field(default_factory=dict)
    by: str = ""
    choices: Sequence[Branch] = ()
    aliases: tuple[str, ...] = ()


@dataclass
class Arguments:
    """A branch where there is no dargs."""

    name: str
    branch: Branch
    complete: Complete

    def gen_doc(self) -> str:
        """A paragraph for each key: its kind, its default, what it means."""
        return "\n".join([f"{self.name}:", *_paragraphs(self.branch, "    ")]) + "\n"

    def normalize_value(self, value: Mapping[str, Any], **ignored: Any) -> dict[str, Any]:
        """The mapping with all defaults, aliases replaced. Raises DescriptionError."""
        return self.complete(value)

    def check_value(self, value: Mapping[str, Any], strict: bool = True, **ignored: Any) -> None:
        """Raises DescriptionError, also for unknown keys when not `strict`: they are errors everywhere here."""
        self.complete(value)


def tree(branch: Branch, complete: Complete) -> Any:
    """The branch as an `Argument` of dargs where that is installed, else as Arguments."""
    try:
        import dargs
    except ImportError:
        return Arguments(branch.name, branch, complete)
    return _argument(dargs, branch)


def _argument(dargs: Any, branch: Branch) -> Any:
    decided = {key.name for choice in branch.choices for key in choice.keys} | {branch.by}
    fields = [_leaf(dargs, key, branch.below.get(key.name)) for key in branch.keys if key.name not in decided]
    variants = []
    if branch.by:
        (meaning,) = (key.meaning for key in branch.keys if key.name == branch.by)
        choices = [_argument(dargs, choice) for choice in branch.choices]
        variants.append(dargs.Variant(branch.by, choices, optional=False, doc=meaning))
    return dargs.Argument(branch.name, dict, fields, variants, alias=branch.aliases)


def _leaf(dargs: Any, key: Key, below: Branch | None) -> Any:
    """Defaults that mean "nothing is written" stay away: a mapping that was completed by dargs is still one of DPDispatcher."""
    options: dict[str, Any] = {"optional": key.default is not schema.REQUIRED, "alias": key.aliases, "doc": key.meaning}
    if options["optional"] and not key.ours and key.default is not None:
        options["default"] = key.default
    if key.least is not None or key.most is not None:
        limits = [(key.least, "greater than or equal to"), (key.most, "less than or equal to")]
        options["extra_check"] = lambda value: not schema.out_of_range(key, value)
        words = " and ".join(f"{word} {limit}" for limit, word in limits if limit is not None)
        options["extra_check_errmsg"] = f"{key.name} must be {words}"
    types = [each for kind in key.kind.split("|") for each in _TYPES[kind.partition("[")[0]]]
    fields = None if below is None else [_leaf(dargs, each, None) for each in below.keys]
    return dargs.Argument(key.name, types, fields, **options)


def _paragraphs(branch: Branch, indent: str) -> Iterator[str]:
    for key in branch.keys:
        default = "required" if key.default is schema.REQUIRED else f"default {key.default!r}"
        aliases = f", also {', '.join(key.aliases)}" if key.aliases else ""
        yield f"{indent}{key.name}: {key.kind.replace('|', ' or ')}, {default}{aliases}\n{indent}    {key.meaning}"
        if key.name in branch.below:
            yield from _paragraphs(branch.below[key.name], indent + "    ")


# --- the descriptions there are -------------------------------------------------------------------------------------------


def _key(table: Sequence[Key], name: str) -> Key:
    return next(key for key in table if key.name == name)


def context(name: str) -> Branch:
    """What a machine with this context has besides the keys of all machines."""
    own = ["remote_profile"] + (["create_remote_root"] if name == "SSHContext" else [])
    kind = schema.context_kind(name)
    profile = Branch("remote_profile", kind.profile or ())
    short = name.removesuffix("Context")
    others = [
        spelt for each in kind.aliases for spelt in (f"{each}Context", f"{each}context".lower(), each, each.lower())
    ]
    aliases = (name.lower(), short, short.lower(), *others)
    return Branch(name, [_key(schema.MACHINE, each) for each in own], {"remote_profile": profile}, aliases=aliases)


def kwargs(name: str) -> Branch:
    """The keys of `resources.kwargs` of one batch system."""
    return Branch("kwargs", systems.known().keys(name).keys)


def batch_system(name: str) -> Branch:
    """What resources for this batch system have besides the keys of all resources."""
    return Branch(name, [_key(schema.RESOURCES, "kwargs")], {"kwargs": kwargs(name)}, aliases=(name.lower(),))


TASK = Branch("task", schema.TASK)
MACHINE = Branch(
    "machine", schema.MACHINE, by="context_type", choices=[context(kind.name) for kind in schema.CONTEXTS.values()]
)
_STRATEGY = {"strategy": Branch("strategy", schema.STRATEGY)}
RESOURCES = Branch("resources", (*schema.RESOURCES, schema.SYSTEM), _STRATEGY)


def resources_of_a_system() -> Branch:
    """Resources with the keys of the batch system that `batch_type` names."""
    choices = [batch_system(name) for name in systems.known().names()]
    return Branch("resources", (*schema.RESOURCES, schema.SYSTEM), _STRATEGY, by="batch_type", choices=choices)
