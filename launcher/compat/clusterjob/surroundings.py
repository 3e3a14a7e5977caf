"""What a job script is given on its machine besides its own text: variables, files of its own, jobs that it waits for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...contexts.shell import Text, sh, word
from ...job.script import first_set
from ...job.spec import Needed
from ...machines import registry
from .checks import SettingError

_VARIABLES = """\
export CLUSTERJOB_ID="$pf_id" CLUSTERJOB_WORKDIR="$REMOTE_ROOT" CLUSTERJOB_NAME={name}
export CLUSTERJOB_SUBMIT_HOST="{submit_host}"
export CLUSTERJOB_ARRAY_INDEX="{element}"
pf_word=$(cut -d' ' -f1 "{node_file}")
export CLUSTERJOB_NODELIST="{nodes}\""""
_BY_HAND = """\
if [ -z "${CLUSTERJOB_ID-}" ]; then
pf_id={id}
REMOTE_ROOT={folder}
{variables}
fi"""
# Where no batch system gives each job files for its output; jobs of one name that run at the same time do not share them.
_OUTPUT_NAME = """\
pf_name={name}
printf '%s\\n' {name} >|.{hash}.name
for pf_word in .*.name; do
  [ "$pf_word" != .{hash}.name ] && [ "$(cat "$pf_word" 2>/dev/null)" = {name} ] || continue
  pf_word=$(cat "${pf_word%.name}.0.claim" 2>/dev/null) || continue
  set -- $(sed 's/.*) //' "/proc/${pf_word%:*}/stat" 2>/dev/null)
  [ "${20-}" != "${pf_word#*:}" ] || pf_name={name}.${pf_id%%:*}
done"""


def variables(name: str, batch_type: str) -> Text:
    """Shell lines with what clusterjob puts in the place of its variables; here they are variables of the job."""
    told = registry.job_variables(batch_type)
    return sh(
        _VARIABLES,
        name=word(name),
        submit_host=first_set(told.submit_host, sh("$(uname -n)")),
        element=first_set(told.element),
        node_file=first_set(told.node_file, sh("/dev/null")),
        nodes=first_set(told.nodes, sh("$pf_word")),
    )


def by_hand_variables(name: str, batch_type: str) -> Text:
    """Shell lines for a script that may be submitted without us: it finds the variables that our own wrapper sets."""
    told = registry.job_variables(batch_type)
    return sh(
        _BY_HAND,
        id=first_set(told.id, sh("$$")),
        folder=first_set(told.submit_folder, sh("$PWD")),
        variables=variables(name, batch_type),
    )


def own_output(name: str, job_hash: str, ends: Sequence[str]) -> tuple[list[Text], list[Text]]:
    """(lines that make the files NAME.END for the output of this job alone, lines that lead its output there)."""
    found = [sh(_OUTPUT_NAME, name=word(name), hash=word(job_hash))]
    found += [sh(': >|"$pf_name"{end}', end=word(end)) for end in ends]
    streams = {".out": sh('exec >>"$pf_name".out\n'), ".err": sh('exec 2>>"$pf_name".err\n')}
    return found, [streams[end] for end in ends]


_FOLDERS = "|".join(("CLUSTERJOB_WORKDIR", *registry.job_variables(registry.names()[0]).submit_folder))
_WORKDIR = rf"\$(?:\{{(?:{_FOLDERS})\}}|(?:{_FOLDERS})\b)"
_INTO_WORKDIR = re.compile(rf"""\bcd\s+["']?{_WORKDIR}["']?\s*(?=[;&|\n]|$)""")
_ELSEWHERE = re.compile(r"\b(?:cd|pushd|chdir)\b")


def with_own(text: str, names: Iterable[str], folder: str) -> str:
    """The text with `./NAME` of these files, also below a variable for the job's folder, leading into another folder.

    Where the text changes folders `./NAME` may be another file: it stays.
    """
    begins = [f"{_WORKDIR}/"]
    if not _ELSEWHERE.search(_INTO_WORKDIR.sub("", text)):
        begins.append(r"(?<![\w./$}-])\./")
    for name in names:
        pattern = rf"({'|'.join(begins)}){re.escape(name)}(?![\w/-]|\.\w)"
        text = re.sub(pattern, lambda match, own=f"{folder}/{name}": match[1] + own, text)  # type: ignore[misc]
    return text


_NEEDED = re.compile(r"\bafterok((?::[\w.\[\]@;-]+)+)|\bdone\(\s*([\w.\[\]]+)\s*\)")


def needed(resources: Mapping[str, Any]) -> tuple[Needed, ...]:
    """Jobs that the batch system is told must have ended well, in its own words; none where one of several is enough."""
    words = ("dependency", "depend", "d", "W", "w")
    text = " ".join(str(resources[key]) for key in resources if key.lstrip("-") in words)
    if "?" in text or "||" in text:
        return ()
    found = [job for match in _NEEDED.finditer(text) for job in (match[1] or match[2]).strip(":").split(":")]
    return tuple(Needed(job) for job in found)


_SOME = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")


def array_elements(text: str) -> tuple[int, ...]:
    """Of `0-3`, `1,5,9`, `0-15:4%2`. Raises SettingError."""
    found: list[int] = []
    for part in text.partition("%")[0].split(","):
        match = _SOME.fullmatch(part.strip())
        if match is None:
            remedy = "write 0-9, 1,3,7 or 0-30:5, with %N behind it for at most N at a time"
            raise SettingError(f"{text!r} is no list of indexes", where="resources.array", remedy=remedy)
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        found += range(first, last + 1, max(1, step))
    return tuple(dict.fromkeys(found))
