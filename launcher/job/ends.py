"""How single batch jobs ended: a small file for each on its machine, written once by the first who sees the end.

All handles of a job, in whatever program, read it there, so they tell the same; the job's own files can go. The folder is
`~/.pilotfish/jobs` on the machine (or below PILOTFISH_HOME); a job's files stay in it until it is asked to `forget`.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...pilot.model.errors import TransientError
from ..contexts.base import Context
from ..contexts.shell import Text, joined, place, places, sh, word
from .script import told_reason
from .spec import is_id
from .states import JobState, Status

_AT_ONCE = 100
_LONGEST_ID = 200
"""Which is part of the name of a file."""

_FOLDER = """\
for at in "${PILOTFISH_HOME:-$HOME/.pilotfish}/jobs" {folder}/.pilotfish-jobs; do
  (umask 077; mkdir -p -- "$at") 2>/dev/null && [ -w "$at" ] && cd -- "$at" && uname -n && pwd && exit
done
exit 1"""

# A link cannot be made twice; where there are none the name is taken if it is free.
_NEW = "[ -s {path} ] || printf '%s\\n' {text} >{path}.$$\n"
_KEEP = """\
f={path} t={path}.$$
[ ! -s "$t" ] || ln "$t" "$f" 2>/dev/null || [ -s "$f" ] || mv "$t" "$f"
if [ -s "$f" ] && read -r kept <"$f"; then printf '%s\\n' "$kept"; ( {tidy} ) >&2; else printf '%s\\n' {text}; fi
"""

_WRITE = """\
umask 077
{new}sync -d {drafts} 2>/dev/null
{keep}rm -f -- {drafts}"""

_CLAIM = """\
umask 077; f={path} t={path}.$$
printf %s {token} >"$t" && { ln "$t" "$f" 2>/dev/null || [ -s "$f" ] || mv "$t" "$f"; }
rm -f "$t"; cat "$f"
"""


@dataclass(frozen=True)
class Folder:
    """Where the files of ended jobs are on a machine, and what that calls itself."""

    path: str
    host: str

    def of(self, job_hash: str) -> str:
        return f"{self.path}/{job_hash}.json"

    def by_id(self, batch_type: str, job_id: str) -> str | None:
        """The file that tells which of our jobs has this id; None for what cannot be an id."""
        good = is_id(job_id) and len(job_id) <= _LONGEST_ID
        return f"{self.path}/{batch_type}.{self.host}.{job_id}.id" if good else None


def folder_on(context: Context, job_folder: str) -> Folder:
    """Made if it is missing; where the home cannot be written it is below the job's own folder."""
    told = context.check(sh(_FOLDER, folder=place(context.absolute(job_folder))))
    host, path = told.strip().split("\n", 1)
    return Folder(path, re.sub(r"[^A-Za-z0-9.-]", "", host))


def write(context: Context, ended: Sequence[tuple[str, str, Status, Text]]) -> dict[str, Status]:
    """Write down how jobs ended: (path, the job's hash, its end, shell text that removes its own files).

    What somebody has written before stays. Gives what is there now, by the hash.
    """
    found: dict[str, Status] = {name: status for _, name, status, _ in ended}
    for start in range(0, len(ended), _AT_ONCE):
        some = ended[start : start + _AT_ONCE]
        keep = [
            {"path": place(path), "text": word(_text(name, status)), "tidy": tidy} for path, name, status, tidy in some
        ]
        drafts = joined(sh("{path}.$$ ", path=each["path"]) for each in keep)
        new = joined(sh(_NEW, path=each["path"], text=each["text"]) for each in keep)
        kept = joined(sh(_KEEP, **each) for each in keep)
        command = sh(_WRITE, new=new, drafts=drafts, keep=kept)
        for line in context.run(command, timeout_s=600).out.splitlines():
            name, told = _parsed(line)
            if told is not None and name in found:
                found[name] = told
    return found


def _text(job_hash: str, status: Status) -> str:
    found = {
        "job": job_hash,
        "state": status.state.name,
        "reason": status.reason,
        "exit_code": status.exit_code,
        "start_s": status.start_s,
        "end_s": status.end_s,
        "nodes": status.nodes,
        "why": status.why,
    }
    return json.dumps(found)


def read(text: bytes) -> Status | None:
    """What is written of an end; None for what is none."""
    return _parsed(text.decode(errors="replace"))[1]


def _parsed(text: str) -> tuple[str, Status | None]:
    try:
        found: dict[str, Any] = json.loads(text)
        state = JobState[found["state"]]
        code, start, end = (_number(found[name]) for name in ("exit_code", "start_s", "end_s"))
        reason, nodes = told_reason(str(found["reason"]).encode()), told_reason(str(found["nodes"]).encode())
        why = told_reason(str(found.get("why", "")).encode())
        status = Status(state, "", reason, None if code is None else int(code), start, end, nodes, why)
        return str(found["job"]), status if state.ended else None
    except (ValueError, KeyError, TypeError, OverflowError):
        return "", None


def _number(value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError
    return value


def claim(context: Context, path: str) -> bool:
    """Whether we are the first to claim this, of all programs; the claim stays. Raises TransientError."""
    token = secrets.token_hex(8)
    found = context.run(sh(_CLAIM, path=place(path), token=word(token))).out.strip()
    if not found:
        raise TransientError("cannot be written", where=path, remedy="look for a full disk or a quota on the machine")
    return found == token


def forget(context: Context, path: str, *more: str | None) -> None:
    """Remove what is kept of a job, and these files too."""
    stem = path.removesuffix(".json")
    files = [f"{stem}.json", f"{stem}.epilogue", *(each for each in more if each)]
    context.run(sh("rm -f -- {files}", files=places(files)))
