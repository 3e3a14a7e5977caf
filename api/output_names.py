"""Names of files for what tasks print, from `--output DIR`, `--stdout FILE` and `--stderr FILE`, which may be templates.

    --output 'out/{alpha}'             out/0.1/sweep-3.out, out/0.1/sweep-3.err
    --stdout 'logs/{alpha}/{task}.txt'

`{alpha}` is a parameter, `{name}` the job, `{index}` the index of a task of many, `{task}` both: `sweep-3`. A `{` that begins
no name stands for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .templates import fill, parameters_in

_OWN = ("name", "task", "index")
_STEM = "pilotfish_stem"
"""Stands for the name of the job until that is known."""


class OutputNames(NamedTuple):
    """Templates; None where nothing was said. `folder` is for both streams."""

    folder: str | None = None
    stdout: str | None = None
    stderr: str | None = None

    def of(self, job: Mapping[str, Any], stem: str) -> dict[str, str]:
        """The files of a job whose own begin with `stem`, by stream; those that it names itself win.

        Raises UsageError for a name in braces that means nothing there.
        """
        iterates = job.get("iteration") is not None
        files: dict[str, str] = {}
        for stream, suffix in (("stdout", ".out"), ("stderr", ".err")):
            template = getattr(self, stream)
            where = f"--{stream}"
            if template is None:
                if self.folder is None:
                    continue
                template, where = str(Path(self.folder) / f"{{task}}{suffix}"), "--output"
            name = self._filled(template, job, iterates, where)
            files[stream] = str(Path(name).absolute()).replace(f"${{{_STEM}}}", stem)
        return files

    @staticmethod
    def _filled(template: str, job: Mapping[str, Any], iterates: bool, where: str) -> str:
        names = parameters_in(job.get("iteration"))
        variables = {name: name for name in names} | {"name": _STEM}
        if iterates:
            variables |= {"it": "it", "index": "it"}
        task = "{name}-{index}" if iterates else "{name}"
        return fill(template.replace("{task}", task), variables, [*names, *_OWN], where)
