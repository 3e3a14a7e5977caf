"""`pilotfish doctor` on a real Slurm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from emulated import Slurm
from patience import PATIENCE_S

from pilotfish.launcher.cli.doctor import examine
from pilotfish.launcher.contexts.base import Finding
from pilotfish.launcher.contexts.registry import build_context
from pilotfish.launcher.description.machine import parse_machine


@pytest.fixture(autouse=True)
def on_slurm(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """This process is a user of that Slurm."""
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.environ[name])
    return slurm


def findings(wd: Path, queue: str, wait_s: float = 0.0) -> dict[str, Finding]:
    given = {"batch_type": "Slurm", "context_type": "Local", "local_root": ".", "remote_root": str(wd)}
    machine = parse_machine(given)
    with build_context(machine) as context:
        return {found.what: found for found in examine(machine, context, queue, wait_s=wait_s)}


def test_a_sound_machine(wd: Path, on_slurm: Slurm) -> None:
    (queue,) = on_slurm.run("sinfo", "-h", "-o", "%R").split()[:1]
    found = findings(wd, queue, PATIENCE_S)
    assert all(each.ok or each.warning for each in found.values()), found
    assert (found["batch system"].found, found["queue"].found) == ("Slurm answers", queue)
    assert found["job of one second"].found.startswith("ran on ")
    assert list(wd.iterdir()) == []


def test_a_queue_that_is_not_there(wd: Path) -> None:
    found = findings(wd, "nowhere; touch hacked")["queue"]
    assert (found.ok, found.found) == (False, "no queue nowhere; touch hacked")


def test_a_controller_that_does_not_answer(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = Path(os.environ["SLURM_CONF"]).read_text().splitlines()
    kept = [line for line in conf if not line.lower().startswith(("slurmctldport", "messagetimeout"))]
    (wd / "slurm.conf").write_text("\n".join([*kept, "SlurmctldPort=1", "MessageTimeout=2"]) + "\n")
    monkeypatch.setenv("SLURM_CONF", str(wd / "slurm.conf"))
    found = findings(wd, "")["batch system"]
    assert not found.ok
    assert "jobs are submitted" in found.remedy
