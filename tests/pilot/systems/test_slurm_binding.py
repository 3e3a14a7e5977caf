"""Whether tasks tell `srun` not to bind: where Slurm cannot, it complains of being told."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.pilot.systems.slurm import SYSTEM

CONFIGURATIONS = {
    "TaskPlugin=task/none\n": False,
    "ClusterName=c\n": False,
    "#TaskPlugin=task/affinity\n": False,
    "TaskPlugin=task/affinity,task/cgroup\n": True,
    "taskplugin = task/cgroup\n": True,
    "Include other.conf\n": True,
}


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_srun_is_told_not_to_bind_where_it_might(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configuration: str
) -> None:
    (tmp_path / "slurm.conf").write_text(configuration)
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    assert SYSTEM.task_variables is not None
    told = SYSTEM.task_variables([("n1", 2)], None)
    assert told.get("SLURM_CPU_BIND") == ("none" if CONFIGURATIONS[configuration] else None)


def test_a_configuration_that_cannot_be_read_may_bind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CONF", raising=False)
    assert SYSTEM.task_variables is not None
    assert SYSTEM.task_variables([("n1", 2)], None)["SLURM_CPU_BIND"] == "none"
