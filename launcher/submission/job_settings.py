"""Settings of single batch jobs: `~/.config/pilotfish/jobs.ini`, or else fyrd's `~/.fyrd/config.txt`, whose words they have.

Nothing is kept in memory: what another program has just written counts, and a file is only made when something is set.
"""

from __future__ import annotations

import ast
import configparser
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...pilot.files import write_atomically
from ...pilot.model.errors import UsageError


class SettingsError(UsageError, ValueError):
    """The file of settings cannot be read, or has no such section or key."""

    code = "job-settings"


@dataclass(frozen=True)
class Setting:
    """One key: its default, and what it does. `used`: whether anything here asks for it."""

    default: Any
    meaning: str
    used: bool = True


SETTINGS: dict[str, dict[str, Setting]] = {
    "queue": {
        "max_jobs": Setting(1000, "`submit` waits while so many jobs of mine are not over"),
        "sleep_len": Setting(1, "seconds between two looks while it waits for that"),
        "queue_update": Setting(2, "for so many seconds a Queue does not ask again"),
        "res_time": Setting(2700, "seconds that Queue.wait gives a job that is suspended or preempted"),
        "queue_type": Setting(
            "auto", "the kind of queue: a batch system in small letters, or local; auto: what is here"
        ),
        "sbatch": Setting(None, "path of a command; put its folder into PATH", used=False),
        "qsub": Setting(None, "path of a command; put its folder into PATH", used=False),
        "progressbar": Setting(True, "run.get_pbar shows a bar"),
        "queue_maximums": Setting(None, "a file with limits of queues", used=False),
    },
    "jobs": {
        "clean_files": Setting(True, "`get` removes scripts"),
        "clean_outputs": Setting(False, "`get` removes output files"),
        "file_block_time": Setting(30, "seconds to wait for files of an ended job", used=False),
        "scriptpath": Setting(None, "folder of scripts; default: where the job runs"),
        "outpath": Setting(None, "folder of output; default: where the job runs"),
        "suffix": Setting("cluster", "part of all names of a job's files"),
        "auto_submit": Setting(True, "`get` and `wait` submit a job that is not submitted"),
        "generic_python": Setting(False, "functions are called by the `python3` in PATH, not by this one"),
        "profile_file": Setting(None, "the file of profiles"),
    },
    "notify": {
        "mode": Setting("linux", "linux: by the command `mail`; smtp"),
        "wait_time": Setting(240, "`wait` writes when it took longer than so many seconds, and there is an address"),
        "notify_address": Setting(None, "to whom"),
        "smtp_host": Setting(None, "the server"),
        "smtp_port": Setting(587, "its port"),
        "smtp_tls": Setting(True, "encrypted, from the first word that matters on"),
        "smtp_from": Setting(None, "from whom"),
        "smtp_user": Setting(None, "the login; default: smtp_from"),
        "smtp_passfile": Setting(None, "a file with the password, for your eyes only"),
    },
    "local": {
        "server_uri": Setting(None, "address of a server", used=False),
        "max_jobs": Setting(None, "cores of the local queue; default: all"),
        "local_clean_days": Setting(7, "days that ended jobs are kept", used=False),
    },
}
"""`used=False`: of things that there are not here: a daemon, files that come late."""


def settings_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Where settings are written."""
    return Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "pilotfish" / "jobs.ini"


def read(path: Path | None = None) -> configparser.ConfigParser:
    """What is written; `path` replaces both files. Raises SettingsError."""
    paths = [settings_file(), Path.home() / ".fyrd" / "config.txt"] if path is None else [path]
    parser = configparser.ConfigParser(default_section="", interpolation=None, allow_no_value=True)
    found = next((each for each in paths if each.exists()), None)
    if found is None:
        return parser
    try:
        parser.read_string(found.read_text(encoding="utf-8"), str(found))
    except (OSError, configparser.Error, UnicodeDecodeError) as error:
        remedy = "mend the file, or move it away; nothing in it was changed"
        raise SettingsError(f"cannot be read: {error}", where=str(found), remedy=remedy) from error
    return parser


def write(parser: configparser.ConfigParser, path: Path | None = None) -> None:
    text = io.StringIO()
    parser.write(text)
    target = settings_file() if path is None else path
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, text.getvalue().encode(), mode=0o644)


def all_settings(path: Path | None = None) -> dict[str, dict[str, Any]]:
    """Everything, with the defaults of what is not written. Raises SettingsError."""
    written = read(path)
    found = {section: {key: each.default for key, each in keys.items()} for section, keys in SETTINGS.items()}
    for section in written.sections():
        found.setdefault(section, {}).update({key: _value(text) for key, text in written[section].items()})
    return found


def setting(section: str, key: str, path: Path | None = None) -> Any:
    """One value. Raises SettingsError."""
    return all_settings(path)[section][key]


def _value(text: str | None) -> Any:
    """As fyrd writes it: a number, True, False, None, a list, a mapping, or text."""
    if text is None:
        return None
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text.strip()
