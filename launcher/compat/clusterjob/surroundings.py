"""What a job script is given on its machine besides its own text: variables, files of its own, jobs that it waits for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...submission.needs import Needed

# What clusterjob puts in the place of its variables; here they are variables of the job.
VARIABLES = """\
export CLUSTERJOB_ID="$pf_id" CLUSTERJOB_WORKDIR="$REMOTE_ROOT" CLUSTERJOB_NAME={name}
for pf_word in "$SLURM_SUBMIT_HOST" "$PBS_O_HOST" "$LSB_SUB_HOST" "$SGE_O_HOST" "$(uname -n)"; do
  [ -n "$CLUSTERJOB_SUBMIT_HOST" ] || export CLUSTERJOB_SUBMIT_HOST="$pf_word"
done
for pf_word in "$SLURM_ARRAY_TASK_ID" "$PBS_ARRAY_INDEX" "$PBS_ARRAYID" "$LSB_JOBINDEX" "$SGE_TASK_ID"; do
  [ -n "$CLUSTERJOB_ARRAY_INDEX" ] || export CLUSTERJOB_ARRAY_INDEX="$pf_word"
done
pf_word=$(cut -d' ' -f1 "${{PBS_NODEFILE:-${{PE_HOSTFILE:-/dev/null}}}}")
export CLUSTERJOB_NODELIST="${{SLURM_JOB_NODELIST:-${{LSB_HOSTS:-$pf_word}}}}\""""


# Where no batch system gives each job files for its output; jobs of one name that run at the same time do not share them.
OUTPUT_NAME = """\
pf_name={name}
printf '%s\\n' {name} >|.{hash}.name
for pf_word in .*.name; do
  [ "$pf_word" != .{hash}.name ] && [ "$(cat "$pf_word" 2>/dev/null)" = {name} ] || continue
  pf_word=$(cat "${{pf_word%.name}}.0.claim" 2>/dev/null) || continue
  set -- $(sed 's/.*) //' "/proc/${{pf_word%:*}}/stat" 2>/dev/null)
  [ "${{20-}}" != "${{pf_word#*:}}" ] || pf_name={name}.${{pf_id%%:*}}
done"""

_WORKDIR = r"\$(?:\{(?:%s)\}|(?:%s)\b)" % (
    ("CLUSTERJOB_WORKDIR|SLURM_SUBMIT_DIR|PBS_O_WORKDIR|LS_SUBCWD|SGE_O_WORKDIR",) * 2
)
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
