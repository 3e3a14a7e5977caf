"""Writes docs/reference.md, job-keys.md, launcher-keys.md, schemas/ and parts of developing/states.md from the code's tables.

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

from pilotfish.launcher.description import json_schema, schema
from pilotfish.launcher.machines import registry
from pilotfish.pilot.manager.config import OPTIONS, default_of
from pilotfish.pilot.model import errors
from pilotfish.pilot.model.states import ALLOWED, State
from pilotfish.pilot.wire import job_schema
from pilotfish.pilot.wire.requests import KINDS

PAGE = Path(__file__).with_name("reference.md")
KEYS = Path(__file__).with_name("launcher-keys.md")
JOB_KEYS = Path(__file__).with_name("job-keys.md")
SCHEMAS = Path(__file__).with_name("schemas")
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
    for path, text in (
        (PAGE, page()),
        (KEYS, keys_page()),
        (JOB_KEYS, job_keys_page()),
        (STATES, states_page()),
        (SCHEMAS / "job.schema.json", _json(job_schema.job_file_schema())),
        (SCHEMAS / "submission.schema.json", _json(json_schema.submission_schema(_keys_of_systems()))),
    ):
        if not check:
            path.parent.mkdir(exist_ok=True)
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
    for section, key in schema.rows(_keys_of_systems()):
        default = "required" if key.default is schema.REQUIRED else f"`{json.dumps(key.default)}`"
        meaning = f"{key.meaning}{' (ours)' if key.ours else ''}"
        if key is schema.MACHINE[0]:
            meaning = f"{', '.join(registry.names())}: {meaning}"
        rows.setdefault(section, []).append((f"`{key.name}`", key.kind.replace("|", " or "), default, meaning))
    for section, entries in rows.items():
        sections += [f"## {section}\n", _table(("key", "type", "default", "meaning"), entries)]
    return "\n".join(sections)


def _keys_of_systems() -> dict[str, tuple[schema.Key, ...]]:
    return {name: registry.keys(name).keys for name in registry.names()}


def job_keys_page() -> str:
    """All keys of job descriptions."""
    sections = [_JOB_KEYS_TEXT]
    rows: dict[str, list[tuple[str, ...]]] = {}
    for section, key, kind, meaning in job_schema.rows():
        rows.setdefault(section, []).append((f"`{key}`", kind, _plain(meaning)))
    for section, entries in rows.items():
        title = f"## {section}\n" if section else "## A job\n"
        sections += [title, _table(("key", "type", "meaning"), entries)]
    return "\n".join(sections)


_JOB_KEYS_TEXT = """# Keys of jobs

Made from the code by `docs/generate.py`. What they do, with examples: [Jobs](jobs.md). For editors there is a
[JSON Schema](schemas/job.schema.json) (also `pilotfish schema job`): with `# yaml-language-server: $schema=job.schema.json` as
the first line of a YAML file they check and complete as you write. `null` is the same as leaving a key out.
"""


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _plain(text: str) -> str:
    """Brackets and bars of a text that stands in a table, where Markdown would take them for its own."""
    return text.replace("|", "\\|").replace("[", "\\[").replace("<", "&lt;")


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
                _plain(option.help),
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
