"""What came of a run, from its `jobs.report`: counts, and the failures with the last lines of their stderr."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click

MOST_FAILURES = 10
STDERR_LINES = 5
_TAIL_BYTES = 4096


@dataclass(frozen=True)
class Failure:
    name: str
    state: str
    exit_code: str | None
    message: str
    stderr: str
    """The last lines, if they went to a file."""


@dataclass(frozen=True)
class Outcome:
    tasks: int
    succeeded: int
    failed: int
    """Tasks that ended otherwise than SUCCEED."""
    seconds: float
    report: Path
    failures: list[Failure]
    """The first MOST_FAILURES."""

    def as_json(self) -> dict[str, Any]:
        return {
            "version": 1,
            "tasks": self.tasks,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
            "report": str(self.report),
            "failures": [vars(failure) for failure in self.failures],
        }

    def show(self, stream: IO[str]) -> None:
        rate = self.tasks / self.seconds if self.seconds else 0.0
        head = f"{self.tasks} tasks: {self.succeeded} succeeded, {self.failed} failed"
        click.secho(f"{head} in {self.seconds:.1f} s ({rate:.0f}/s)", file=stream, fg="red" if self.failed else "green")
        for failure in self.failures:
            code = "" if failure.exit_code is None else f", exit code {failure.exit_code}"
            click.echo(f"  {failure.name}: {failure.state}{code} {failure.message}".rstrip(), file=stream)
            for line in failure.stderr.splitlines():
                click.echo(f"    | {line}", file=stream)
        if self.failed > len(self.failures):
            click.echo(f"  ... and {self.failed - len(self.failures)} more", file=stream)
        click.echo(f"report: {self.report}", file=stream)


def read_outcome(aux: Path, seconds: float) -> Outcome:
    """Count the endings in the report of an auxiliary folder; a job with iterations counts as its iterations."""
    report = aux / "jobs.report"
    executions: dict[str, Any] = {}
    bad: list[dict[str, Any]] = []
    tasks = failed = 0
    for entry in _entries(report):
        name, state = entry["name"], entry["state"]
        if "execution" in entry:
            executions[name] = entry["execution"]
            if state in ("SUCCEED", "FAILED") and not entry["runtime"] and "messages" not in entry:
                continue  # an iteration job: its iterations have been counted
        tasks += 1
        if state != "SUCCEED":
            failed += 1
            if len(bad) < MOST_FAILURES:
                bad.append(entry)
    failures = [_failure(entry, executions) for entry in bad]
    return Outcome(tasks, tasks - failed, failed, seconds, report, failures)


def _entries(report: Path) -> Iterator[dict[str, Any]]:
    try:
        with open(report, encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
    except OSError:
        return


def _failure(entry: Mapping[str, Any], executions: Mapping[str, Any]) -> Failure:
    runtime = entry["runtime"]
    job, _, it = entry["name"].partition(":")
    execution = executions.get(job, {})
    stderr = execution.get("stderr")
    text = _tail(Path(runtime["wd"]) / stderr.replace("${it}", it)) if stderr and "wd" in runtime else ""
    return Failure(entry["name"], entry["state"], runtime.get("exit_code"), entry.get("messages", ""), text)


def _tail(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-STDERR_LINES:])
