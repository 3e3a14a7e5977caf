"""Files of work: job descriptions or requests as JSON, YAML or TOML, or one shell command per line."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from ..pilot import formats
from ..pilot.model.errors import UsageError
from . import lines, script_job

FORMATS = ("json", "yaml", "toml", "lines")
_OTHER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
"""Those of UTF-32 in the usual order of bytes begins with that of UTF-16."""


class JobFile(NamedTuple):
    """What a file holds, and in which of FORMATS it was written, or `script`.

    `asks`: it also says which allocations its queue may ask for (`allocations`), which is not looked at here.
    """

    form: str
    jobs: list[dict[str, Any]]
    asks: bool = False


def load(source: str, form: str | None = None) -> JobFile:
    """The job descriptions in a file, or on standard input for `-`.

    A file holds an array of descriptions, an object `{jobs: [...]}`, one description, or an array of requests of which the
    `submit` ones count. A script is one job. Without `form` the suffix decides; one that tells nothing is refused, see
    `lines`. What comes by a pipe has no suffix: it is JSON when it begins as such, else one command per line.

    Raises UsageError naming file, place and remedy.
    """
    form = form or formats.SUFFIXES.get(Path(source).suffix.lower())
    if form is None and source != "-":
        if script_job.is_script(source):
            return JobFile("script", [script_job.job_of(source)])
        lines.refuse_by_name(source)
    text = _read(source)
    form = form or _sniffed(source, text)
    if form == "lines":
        return JobFile(form, lines.jobs_of(text, source))
    _need_text(text, source)
    value = _parse(text, form, source)
    asks = isinstance(value, dict) and "jobs" in value and bool(value.get("allocations"))
    return JobFile(form, _jobs_of(value, source), asks)


def check_dependencies(jobs: Sequence[Mapping[str, Any]], source: str) -> None:
    """Refuse a dependency on a job that nobody can ever submit: these are all that there are. Raises UsageError.

    What is malformed otherwise is the pilot's to refuse.
    """
    names = {job.get("name") for job in jobs}
    if any(not isinstance(name, str) or "$" in name for name in names):
        return
    for number, job in enumerate(jobs):
        dependencies = job.get("dependencies")
        after = dependencies.get("after") if isinstance(dependencies, dict) else None
        for place, each in enumerate(after if isinstance(after, list) else ()):
            name = each.partition(":")[0] if isinstance(each, str) and "$" not in each else None
            if name is not None and name not in names:
                near = get_close_matches(name, [str(known) for known in names], 1)
                remedy = f"did you mean {near[0]!r}?" if near else "add the job, or leave the dependency out"
                where = f"{source}: jobs[{number}].dependencies.after[{place}]"
                raise UsageError(f"there is no job {name!r}", where=where, remedy=remedy)


def _read(source: str) -> str:
    """The text with line ends as on Unix. Bytes that are not UTF-8 stay what they are: file names have them."""
    try:
        data = _read_stdin() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=source) from error
    if data.startswith(_OTHER_MARKS):
        raise UsageError("is UTF-16 or UTF-32 text", where=source, remedy="save it as UTF-8: iconv -t UTF-8")
    text = data.removeprefix(codecs.BOM_UTF8).decode(
        errors="surrogateescape"
    )  # some editors begin a file with this mark
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read_stdin() -> bytes:
    if sys.stdin is None:
        return b""
    binary = getattr(sys.stdin, "buffer", None)
    data: bytes = sys.stdin.read().encode(errors="surrogateescape") if binary is None else binary.read()
    return data


def _need_text(text: str, source: str) -> None:
    """JSON, YAML and TOML are UTF-8. Raises UsageError."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise UsageError(
            f"is not UTF-8 text: byte {ord(text[error.start]) - 0xDC00:#04x} in line {line}",
            where=source,
            remedy='write such a byte as "\\udcXX" in JSON, or give command lines',
        ) from None


def _sniffed(source: str, text: str) -> str:
    """JSON shows by its first character on a pipe; a file named as lines must not hold it."""
    if text.lstrip()[:1] not in ("[", "{"):
        return "lines"
    if source == "-" or not Path(source).is_file():
        return "json"
    try:
        json.loads(text)
    except ValueError:  # [ and { are commands of the shell too
        return "lines"
    raise UsageError("holds JSON, not command lines", where=source, remedy="call it .json, or give --format json")


def _parse(text: str, form: str, source: str) -> Any:
    try:
        return formats.parse(text, form)
    except formats.FormatError as error:
        raise UsageError(f"is not {form.upper()}: {error}", where=source) from error


def _jobs_of(value: Any, source: str) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        value = value.get("jobs", [value])
    if not isinstance(value, list) or not value:
        raise UsageError("there are no jobs in it", where=source, remedy="write an array of job descriptions")
    jobs: list[dict[str, Any]] = []
    for number, element in enumerate(value):
        if not isinstance(element, dict):
            raise UsageError(f"element {number} is not an object", where=source)
        if "request" not in element:
            jobs.append(element)
        elif element["request"] == "submit":
            jobs += _jobs_of(element.get("jobs"), f"{source}: request {number}")
        elif element["request"] != "control":  # the end of the file is the end of the work anyway
            remedy = "send it with `pilotfish service --file-path`"
            raise UsageError(f"request {element['request']!r} makes no sense here", where=source, remedy=remedy)
    return jobs
