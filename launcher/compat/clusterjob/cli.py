"""`clusterjob-test-backend`: one job through all that a backend can do, on a real cluster, step by step.

Next to INIFILE it leaves the body, the script as it was handed over, what the job has printed, and what was said meanwhile.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

import click

from ....pilot.model.errors import PilotfishError
from ....pilot.version import VERSION
from .jobscript import JobScript
from .status import str_status

DEFAULT_TEST_BODY = r"""
echo "Job id:          $CLUSTERJOB_ID"
echo "Job name:        $CLUSTERJOB_NAME"
echo "Folder:          $CLUSTERJOB_WORKDIR"
echo "Submitted from:  $CLUSTERJOB_SUBMIT_HOST"
echo "Runs on:         $CLUSTERJOB_NODELIST"
echo "Begun:           $(date), in $PWD"
sleep 60
echo "Ended:           $(date)"
"""
_OUTPUT = "clusterjob_test.out"


class _Record(logging.Handler):
    """Keeps what clusterjob's loggers say."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[dict[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append({"level": record.levelname, "message": record.getMessage()})


def _show_body(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        click.echo(DEFAULT_TEST_BODY)
        context.exit()


def _pause(question: str) -> None:
    """On a terminal: wait for the user to have looked."""
    if sys.stdin.isatty():
        click.confirm(f"{question} Go on?", abort=True, default=True)


def _register(name: str) -> None:
    module, _, kind = name.rpartition(".")
    if not module:
        raise click.ClickException(f"--backend {name}: expected MODULE.CLASS")
    sys.path.append(".")
    try:
        JobScript.register_backend(getattr(importlib.import_module(module), kind)())
    except (TypeError, ImportError, AttributeError) as error:
        raise click.ClickException(f"--backend {name}: {error}") from error


def walk_through(job: JobScript) -> int:
    """Submit, cancel, submit again, look, wait: the status of the second job, as a number. Says each step."""
    click.echo("Submitting the job")
    first = job.submit()
    click.echo(f"  job {first.job_id}: {str_status[first.status]} {first.message}".rstrip())
    _pause("Is it in the queue?")
    click.echo("Cancelling it")
    first.cancel()
    click.echo(f"  job {first.job_id}: {str_status[first.status]}")
    _pause("Has it gone?")
    click.echo("Submitting it again")
    second = job.submit(force=True)
    click.echo(f"  job {second.job_id}: {str_status[second.status]}")
    _pause("Is it there again? Now it is waited for.")
    status = second.get()
    click.echo(f"  job {second.job_id}: {str_status[status]} {second.message}".rstrip())
    return status


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION)
@click.option("--body", type=click.Path(exists=True, dir_okay=False), help="file with another script to run")
@click.option("--jobname", default="test_clj", show_default=True, help="name of the job")
@click.option("--backend", metavar="MODULE.CLASS", help="a backend class of your own")
@click.option("--show-default-body", is_flag=True, is_eager=True, expose_value=False, callback=_show_body)
@click.argument("inifile", type=click.Path(exists=True, dir_okay=False))
def test_backend(inifile: str, body: str | None, jobname: str, backend: str | None) -> None:
    """Try a backend with the attributes and resources of INIFILE (as for `JobScript.read_settings`).

    \b
    clusterjob-test-backend cluster.ini
    clusterjob-test-backend --backend mycluster.MyBackend cluster.ini
    """
    if backend is not None:
        _register(backend)
    path = Path(inifile)
    text = DEFAULT_TEST_BODY if body is None else Path(body).read_text()
    record = _Record()
    logger = logging.getLogger("clusterjob")
    logger.addHandler(record)
    before, logger.level = logger.level, logging.DEBUG
    try:
        status = _try(path, text, jobname)
    except (PilotfishError, ValueError, AttributeError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        logger.removeHandler(record)
        logger.setLevel(before)
        path.with_suffix(".json").write_text(json.dumps(record.lines, indent=1) + "\n")
    sys.exit(0 if status == 0 else 1)


def _try(path: Path, body: str, jobname: str) -> int:
    job: Any = JobScript(body, jobname=jobname)
    job.read_settings(path)
    job.resources["stdout"] = _OUTPUT
    path.with_suffix(".body.sh").write_text(body)
    path.with_suffix(".rendered.sh").write_text(str(job))
    click.echo(f"The script, also in {path.with_suffix('.rendered.sh')}:\n{job}")
    _pause("Submit it?")
    status = walk_through(job)
    if job.remote is None:
        printed = Path(job.rootdir, job.workdir, _OUTPUT).expanduser()
        if printed.exists():
            path.with_suffix(".out").write_bytes(printed.read_bytes())
            click.echo(f"It has printed (also in {path.with_suffix('.out')}):\n{printed.read_text()}")
    return status
