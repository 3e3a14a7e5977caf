"""`QCGPJExecutor`: tasks from templates, over a `LocalManager`. Futures are QCG-PilotJob's own kind, not those of Python."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from string import Template
from types import TracebackType
from typing import Any

from ....api.errors import WrongArgumentsError
from ....api.jobs import Jobs
from ....api.local import LocalManager
from ....api.manager import Manager

__all__ = ["BasicTemplate", "QCGPJExecutor", "QCGPJFuture", "QCGPJTemplate"]

_SERVICE_LEVELS = ("critical", "error", "warning", "info", "debug")
_JOB_ID = "QCG_PM_EXEC_API_JOB_ID"


class QCGPJTemplate:
    """A kind of task. `template` returns a job description as text, or that and a dictionary of defaults.

    The text is a Python literal in which `$name` and `${name}` stand for parameters.
    """

    @staticmethod
    def template() -> str | tuple[str, dict[str, Any]]:
        raise NotImplementedError("a template has a static method `template` of its own")


class BasicTemplate(QCGPJTemplate):
    """A program: parameters `name` and `exec`; `args`, `stdout` and `stderr` may be left out."""

    @staticmethod
    def template() -> tuple[str, dict[str, Any]]:
        text = (
            "{'name': '${name}', 'execution': {'exec': '${exec}', 'args': ${args}, "
            "'stdout': '${stdout}', 'stderr': '${stderr}'}}"
        )
        return text, {"args": [], "stdout": "stdout", "stderr": "stderr"}


class QCGPJFuture:
    """The jobs of one `submit`."""

    def __init__(self, ids: list[str], qcgpjm: Manager) -> None:
        self.ids = ids
        self.qcgpjm = qcgpjm
        self._done = self._cancelled = False

    def result(self, timeout: float | None = None) -> dict[str, str]:
        """Wait for the jobs; returns their states by name. Raises TimeoutElapsed after `timeout` seconds."""
        return self.qcgpjm.wait4(self.ids, timeout)

    def done(self) -> bool:
        """Whether all have ended, however."""
        if not self._done:
            entries = self.qcgpjm.status(self.ids)["jobs"].values()
            self._done = all(self.qcgpjm.is_status_finished(entry["data"]["status"]) for entry in entries)
        return self._done

    def running(self) -> bool:
        """Whether some have not ended; they may be waiting too."""
        return not self.done()

    def cancel(self) -> bool:
        """Cancel all that have not ended. Always True."""
        if not self._cancelled:
            self.qcgpjm.cancel(self.ids)
            self._cancelled = True
        return True

    def cancelled(self) -> bool:
        """Whether `cancel` has been called."""
        return self._cancelled


class QCGPJExecutor(Executor):
    """A pilot of one's own that takes tasks made from templates.

    Args:
        other_args: more options of the service.
        wd: the pilot's working directory; `api.log` and `executor_api.log` are in it.
        resources: nodes as `--nodes` takes them, "4" or "n1:2,n2:3"; without, those of the allocation or of this machine.
        reserve_core: keep one core free for the pilot.
        enable_rt_stats, wrapper_rt_stats: as the options of the service of these names.
        log_level: critical, error, warning, info or debug, of the service and of `api.log`; anything else is debug.

    Raises as LocalManager.
    """

    def __init__(
        self,
        *other_args: object,
        wd: str = ".",
        resources: str | int | None = None,
        reserve_core: bool = False,
        enable_rt_stats: bool = False,
        wrapper_rt_stats: str | None = None,
        log_level: str = "info",
    ) -> None:
        self.finished = False
        level = log_level.lower() if log_level.lower() in _SERVICE_LEVELS else "debug"
        options: list[object] = ["--log", level, "--wd", wd]
        options += ["--nodes", resources] if resources else []
        options += ["--system-core"] if reserve_core else []
        options += ["--enable-rt-stats"] if enable_rt_stats else []
        options += ["--wrapper-rt-stats", wrapper_rt_stats] if wrapper_rt_stats else []
        folder = Path(wd)
        folder.mkdir(parents=True, exist_ok=True)
        options += other_args
        (folder / "executor_api.log").write_text(f"Starting a pilot with the options {[*map(str, options)]}\n")
        self._qcgpjm = LocalManager(options, {"log_file": str(folder / "api.log"), "log_level": level})

    def __enter__(self) -> QCGPJExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown(wait=kind is None)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the pilot: with `wait` when all work is done, else as `LocalManager.finish`. May be called again."""
        if self.finished:
            return
        self.finished = True
        if cancel_futures:
            unended = [name for name, job in self._qcgpjm.list().items() if job["status"] == "QUEUED"]
            self._qcgpjm.cancel(unended)
        if wait:
            self._qcgpjm.wait4all()
        self._qcgpjm.finish()

    def submit(  # type: ignore[override]  # as there: a template takes the place of a function
        self, fn: Callable[[], str | tuple[str, Mapping[str, Any]]], /, *args: Mapping[str, Any] | None, **kwargs: Any
    ) -> QCGPJFuture:
        """Submit the job that a template describes.

        Args:
            fn: returns a template, see QCGPJTemplate.
            args: parameters; later ones win, and all of them over the template's defaults.
            kwargs: parameters that win over those.

        Raises:
            KeyError: a parameter is missing.
            WrongArgumentsError: what comes out is no job description as a Python literal.
        """
        made = fn()
        text, defaults = made if isinstance(made, tuple) else (made, {})
        parameters = dict(defaults)
        for more in args:
            parameters |= more or {}
        filled = Template(textwrap.dedent(text)).substitute(parameters | kwargs)
        job = _job(filled)
        execution = job["execution"]
        if not execution.get("script"):  # a script may have no variables of the job
            execution["env"] = {**(execution.get("env") or {}), _JOB_ID: "${jname}"}
        return QCGPJFuture(self._qcgpjm.submit(Jobs().add_std(job)), self._qcgpjm)

    @property
    def qcgpj_manager(self) -> LocalManager:
        """The pilot."""
        return self._qcgpjm


def _job(text: str) -> dict[str, Any]:
    try:
        job = ast.literal_eval(text.strip())
    except (SyntaxError, ValueError) as error:
        remedy = "numbers, texts, lists and dictionaries, as Python writes them"
        raise WrongArgumentsError(f"is no Python literal: {text.strip()!r}", where="template", remedy=remedy) from error
    if not isinstance(job, dict) or not isinstance(job.get("execution"), dict):
        raise WrongArgumentsError(f"has no execution: {text.strip()!r}", where="template", remedy="see BasicTemplate")
    return job
