"""Writes docs/reference.md, docs/launcher-keys.md and parts of docs/developing/states.md from the tables the code works by.

With --check it only says whether they are up to date.

python docs/generate.py [--check]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import state_machines

from pilotfish.launcher.description import schema
from pilotfish.launcher.machines import registry
from pilotfish.pilot.manager.config import OPTIONS, default_of
from pilotfish.pilot.model import errors
from pilotfish.pilot.model.states import ALLOWED, State
from pilotfish.pilot.wire.requests import KINDS

PAGE = Path(__file__).with_name("reference.md")
KEYS = Path(__file__).with_name("launcher-keys.md")
STATES = Path(__file__).parent / "developing" / "states.md"
_FROM = {
    "old": "QCG-PilotJob",
    "accepted": "QCG-PilotJob",
    "ours": "ours",
    "command": "ours",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when the page is stale")
    check, stale = parser.parse_args().check, 0
    for path, text in ((PAGE, page()), (KEYS, keys_page()), (STATES, states_page())):
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"{path} is stale: run python docs/generate.py", file=sys.stderr)
            stale = 1
    return stale


def keys_page() -> str:
    """All keys of submission files."""
    sections = [
        "# Keys of submission files\n\nMade from the code by `docs/generate.py`. `ours`: DPDispatcher does not have it.\n"
    ]
    rows: dict[str, list[tuple[str, ...]]] = {}
    of_systems = {name: registry.keys(name).keys for name in registry.names()}
    for section, key in schema.rows(of_systems):
        default = "required" if key.default is schema.REQUIRED else f"`{json.dumps(key.default)}`"
        meaning = f"{key.meaning}{' (ours)' if key.ours else ''}"
        if key is schema.MACHINE[0]:
            meaning = f"{', '.join(registry.names())}: {meaning}"
        rows.setdefault(section, []).append((f"`{key.name}`", key.kind.replace("|", " or "), default, meaning))
    for section, entries in rows.items():
        sections += [f"## {section}\n", _table(("key", "type", "default", "meaning"), entries)]
    return "\n".join(sections)


def states_page() -> str:
    """The page as it is, with what stands between its marks made anew."""
    text = STATES.read_text(encoding="utf-8")
    for name in ("tasks", "attempts", "nodes"):
        section = getattr(state_machines, name)()
        pattern = rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)"
        text = re.sub(
            pattern, lambda marks, section=section: f"{marks[1]}\n{section}\n{marks[2]}", text, flags=re.DOTALL
        )
    return text


def page() -> str:
    sections = ["# Reference\n\nMade from the code by `docs/generate.py`.\n"]
    sections += [
        "## Options of `pilotfish service`\n\n" + _OPTIONS_TEXT,
        _table(("option", "meaning", "default", "from"), _options()),
    ]
    sections += ["## Requests\n", _table(("request", "members", "what it does"), _requests())]
    sections += ["## Error codes\n\nIn the member `error.code` of a reply; every class is below `PilotfishError`.\n"]
    sections += [_table(("code", "class", "meaning"), _errors())]
    sections += ["## States\n\nA job that is retried or whose node was lost is QUEUED again.\n"]
    sections += [_table(("state", "may become"), _states())]
    return "\n".join(sections)


_OPTIONS_TEXT = """Each may also be said by a variable (`PILOTFISH_NET_PORT` for `--net-port`) or in a TOML file (`--config`,
`$PILOTFISH_CONFIG`, `~/.config/pilotfish/config.toml`; table `[service]`, key `net-port`). An option wins over a variable, that
over the file; `--show-settings` tells where each value came from.
"""


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _options() -> Iterator[tuple[str, ...]]:
    for option in OPTIONS:
        if option.group != "hidden":
            default = default_of(option)
            shown = ",".join(default) if isinstance(default, tuple) else str(default)
            yield (
                f"`--{option.name}`",
                option.help,
                "" if default in (None, (), False) else f"`{shown}`",
                _FROM[option.group],
            )


def _requests() -> Iterator[tuple[str, ...]]:
    yield "`submit`", "`jobs`", "Accept all these jobs, or none (job descriptions: [Jobs](jobs.md))."
    for name, kind in KINDS.items():
        yield f"`{name}`", kind.members, kind.does


def _errors() -> Iterator[tuple[str, ...]]:
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.PilotfishError):
            yield f"`{kind.code}`", f"`{name}`", (kind.__doc__ or "").partition("\n")[0].replace("|", "\\|")


def _states() -> Iterator[tuple[str, ...]]:
    for before in State:
        after = [state.name for state in State if ALLOWED[before][state]]
        yield before.name, ", ".join(after) or "nothing: it is final"


if __name__ == "__main__":
    sys.exit(main())
