"""`pilotfish job profile` and `job keywords`: the options of single batch jobs, and sets of them with names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from ...pilot.console import echo, print_json, show
from ...pilot.model.errors import UsageError
from ..description.schema import nearest
from ..submission.job_options import OPTIONS, SYNONYMS, TABLE, option_help
from ..submission.profiles import (
    Profile,
    ProfileError,
    del_profile,
    get_profile,
    get_profiles,
    profiles_file,
    rename_profile,
    set_profile,
    unset_options,
)
from ..submission.queues import qtypes

_OLD_WORDS = {
    "add": "create",
    "new": "create",
    "update": "edit",
    "alter": "edit",
    "delete": "remove",
    "del": "remove",
    "rm": "remove",
}
"""What fyrd calls them."""
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_pairs = click.argument("pairs", metavar="OPTION=VALUE...", nargs=-1)


class _Profiles(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args:
            args = [_OLD_WORDS.get(args[0], args[0]), *args[1:]]
            if args[0] not in self.commands:
                ctx.fail(f"There is no command {args[0]!r}. {nearest(args[0], self.commands) or 'See --help.'}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Profiles)
def profile() -> None:
    """Sets of options with a name, for `job run`, `job submit` and `fyrd`: -p NAME.

    What a profile does not say, DEFAULT says. They are in ~/.config/pilotfish/profiles.ini.

    \b
    pilotfish job profile list
    pilotfish job profile create long cores=8 mem=20G time=2-00:00:00
    pilotfish job profile edit long partition=week --unset mem
    """


@profile.command("list")
@_as_json
def list_profiles(as_json: bool) -> None:
    """List the profiles with their options.

    \b
    pilotfish job profile list --json
    """
    _print(list(get_profiles().values()), as_json)


@profile.command("show")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@_as_json
def show_profiles(names: Sequence[str], as_json: bool) -> None:
    """Show the options of some profiles, with those of DEFAULT.

    \b
    pilotfish job profile show long
    """
    _print([get_profile(name) for name in names], as_json)


@profile.command("create")
@click.argument("name")
@_pairs
@_as_json
def create_profile(name: str, pairs: Sequence[str], as_json: bool) -> None:
    """Make a profile that is not there yet.

    \b
    pilotfish job profile create long cores=8 mem=20G time=2-00:00:00
    """
    if name in get_profiles():
        raise ProfileError(
            "is there already", where=f"profile {name}", remedy=f"`pilotfish job profile edit {name} ...`"
        )
    if not name.strip() or "]" in name or name != name.strip():
        raise ProfileError(f"{name!r} is no name for a profile", remedy="use letters, digits, - and _")
    set_profile(name, _values(pairs))
    _print([get_profile(name)], as_json)


@profile.command("edit")
@click.argument("name")
@_pairs
@click.option("--unset", multiple=True, metavar="OPTION", help="Take this option out; may be given again.")
@_as_json
def edit_profile(name: str, pairs: Sequence[str], unset: Sequence[str], as_json: bool) -> None:
    """Change options of a profile, or take some out; the others stay.

    \b
    pilotfish job profile edit long partition=week --unset mem
    """
    get_profile(name)  # it must be there
    if not pairs and not unset:
        raise click.UsageError("Give OPTION=VALUE, or --unset OPTION.")
    for option in unset:
        if SYNONYMS.get(option, option) not in OPTIONS:
            remedy = nearest(option, [*OPTIONS, *SYNONYMS]) or "`pilotfish job keywords` lists all"
            raise UsageError(f"there is no option {option!r}", where="--unset", remedy=remedy)
    set_profile(name, _values(pairs))
    unset_options(name, [SYNONYMS.get(option, option) for option in unset])
    _print([get_profile(name)], as_json)


@profile.command("rename")
@click.argument("old")
@click.argument("new")
@_as_json
def rename(old: str, new: str, as_json: bool) -> None:
    """Give a profile another name.

    \b
    pilotfish job profile rename long week
    """
    rename_profile(old, new)
    _print([get_profile(new)], as_json)


@profile.command("remove")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@_as_json
def remove_profiles(names: Sequence[str], as_json: bool) -> None:
    """Remove profiles.

    \b
    pilotfish job profile remove long
    """
    for name in names:
        del_profile(name)
    _print(list(get_profiles().values()), as_json)


@click.command()
@click.option("--system", "-s", help="Only those that this batch system has, as pbs, lsf or sge.")
@click.option("--names", "-l", "only_names", is_flag=True, help="Only their names.")
@_as_json
def keywords(system: str | None, only_names: bool, as_json: bool) -> None:
    """List the options of single batch jobs: what --args, profiles and `fyrd` take.

    \b
    pilotfish job keywords --system pbs
    """
    known = qtypes()
    if system is not None and system not in known:
        remedy = nearest(system, known) or f"known are {', '.join(known)}"
        raise UsageError(f"there is no batch system {system!r}", where="--system", remedy=remedy)
    if as_json:
        rows = [_row(name) for name in option_help("list", system)]
        print_json({"options": rows})
    elif only_names:
        show("\n".join(option_help("list", system)))
    else:
        show(option_help("string", system))


def _row(name: str) -> dict[str, Any]:
    option = OPTIONS[name]
    own = {"name": name, "kind": option.kind, "default": option.default, "synonyms": list(option.synonyms)}
    return own | {"only": list(option.only), "help": option.help}


def _print(profiles: Sequence[Profile], as_json: bool) -> None:
    if as_json:
        found = {each.name: each.args for each in profiles}
        print_json({"file": str(profiles_file()), "profiles": found})
        return
    order = [option.name for option in TABLE]
    for each in profiles:
        show(each.name, bold=True)
        for name in sorted(each.args, key=order.index):
            value = each.args[name]
            show(f"  {name:<12} {','.join(map(str, value)) if isinstance(value, list) else value}")
    if not profiles_file().exists():
        echo(f"{profiles_file()} is not there yet: these come with Pilotfish, or are those of fyrd", err=True)


def _values(pairs: Sequence[str]) -> dict[str, str | bool]:
    """Of `cores=8` or, as fyrd has it, `cores:8`."""
    found: dict[str, str | bool] = {}
    for pair in pairs:
        name, mark, value = pair.partition("=")
        if not mark or ":" in name:
            name, mark, value = pair.partition(":")
        if not mark or not name:
            raise UsageError(
                "must be OPTION=VALUE", where=pair, remedy="as cores=8; `pilotfish job keywords` lists them"
            )
        found[name] = {"true": True, "false": False}.get(value.lower(), value)
    return found
