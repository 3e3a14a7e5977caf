"""One place per fact: all that the inside knows of a batch system is in its file, and everybody else asks the registry."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish.pilot.execmodels.environ import base_environment
from pilotfish.pilot.model.errors import SettingsError
from pilotfish.pilot.systems import registry

PILOT = Path(__file__).parents[3] / "pilot"

PROMISED = {
    "manager/config.py": (r"slurm[-_](limit_nodes|limit-nodes|resources|partition)|.slurm., .ssh.", "QCG's options"),
    "manager/app.py": (r"slurm_(limit_nodes_range|resources_file)", "the values of QCG's options"),
    "cli.py": (
        r"slurm[-_](limit_nodes_range|limit-nodes-range|resources_file|resources-file)",
        "the same for `--parent`",
    ),
    "show_resources.py": (r"--slurm-(limit-nodes-range|resources-file)", "the same options as the service"),
    "execmodels/srunmpi.py": (r"", "QCG's execution model `srunmpi` is a command of this one system"),
}
"""File outside systems/ that may name Slurm -> (pattern of the lines where it may, why)."""

INVENTED = '''
"""OAR, as if somebody had just written it."""

from pilotfish.pilot.agent_launchers.base import AgentLauncher
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.systems.base import Allocation, BatchSystem, Source, one_by_one


def inside(environ):
    return "OAR_JOB_ID" in environ


def find(host_env):
    names = host_env.environ["OAR_NODES"].split()
    nodes = tuple(NodeSpec(name, ("0", "1")) for name in names)
    return Allocation("oar", nodes, host_env.environ["OAR_JOB_ID"], None, (Source("nodes", " ".join(names), "OAR_NODES"),))


SYSTEM = BatchSystem("oar", "OAR", inside, find, AgentLauncher("oarsh", one_by_one("oarsh")), private_variables="OAR_.*")
'''

ADDED = """
import oar
from pilotfish.pilot.systems import registry
registry.SYSTEMS = (oar.SYSTEM, *registry.SYSTEMS)  # the one line
from pilotfish.__main__ import main
main()
"""


@pytest.mark.parametrize("path", sorted(PILOT.rglob("*.py")), ids=lambda path: str(path.relative_to(PILOT)))
def test_only_its_own_file_names_a_batch_system(path: Path) -> None:
    """... Slurm standing for all: what is not in systems/ may name it where a promise to users does."""
    name = str(path.relative_to(PILOT))
    if name.startswith("systems/"):
        return
    allowed, _ = PROMISED.get(name, ("(?!)", ""))
    for number, line in enumerate(path.read_text().splitlines(), 1):
        assert "slurm" not in line.lower() or re.search(allowed, line), f"{name}:{number}: {line.strip()}"


def _with_oar(folder: Path, *words: str) -> str:
    (folder / "oar.py").write_text(INVENTED)
    (folder / "added.py").write_text(ADDED)
    environ = {"PATH": "/usr/bin:/bin", "OAR_JOB_ID": "7", "OAR_NODES": "far1 far2", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "added.py", *words],
        check=False,
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    return done.stdout + done.stderr


def test_a_new_batch_system_is_one_file_and_one_line(tmp_path: Path) -> None:
    """It is detected, is among what the options take, and is asked how agents are started."""
    found = _with_oar(tmp_path, "resources", "--here")
    assert found.splitlines()[0] == "oar, job 7, no end is known"
    assert "far1  2" in found
    assert "OAR_NODES" in found
    shown = _with_oar(tmp_path, "service", "--help")
    assert "auto, oar, slurm," in shown
    assert "oarsh" in shown
    started = _with_oar(tmp_path, "service", "--wd", "w")
    assert "oarsh: No such file or directory" in started


def test_names_are_taken_in_any_case_and_aliases_too() -> None:
    assert {
        name: registry.named(name).name for name in ("PBS", "pbspro", "OpenPBS", "torque", "Fugaku", "fujitsu")
    } == {
        "PBS": "pbs",
        "pbspro": "pbs",
        "OpenPBS": "pbs",
        "torque": "torque",
        "Fugaku": "pjm",
        "fujitsu": "pjm",
    }
    with pytest.raises(
        SettingsError, match='--resources: "lfs" is not known; use one of auto, slurm, pbs, torque, lsf'
    ):
        registry.named("lfs")


def test_no_two_systems_share_a_name_or_a_launcher() -> None:
    names = [name for system in registry.SYSTEMS for name in (system.name, *system.aliases)]
    assert len(set(names)) == len(names)
    launchers = [
        *registry.GENERAL_LAUNCHERS,
        *(system.launcher for system in registry.SYSTEMS if system.name != "local"),
    ]
    assert len({launcher.name for launcher in launchers}) == len(launchers)


@pytest.mark.parametrize(
    ("name", "private"),
    [
        ("SLURM_CPU_BIND", True),
        ("SLURM_NTASKS_PER_NODE", True),
        ("SBATCH_EXPORT", True),
        ("SLURM_CONF", False),
        ("PBS_NODEFILE", True),
        ("LSB_JOBID", True),
        ("LSF_BINDIR", False),
        ("PE_HOSTFILE", True),
        ("SGE_ROOT", False),
        ("PJM_JOBID", True),
        ("FLUX_JOB_ID", True),
        ("FLUX_URI", False),
        ("PATH", False),
    ],
)
def test_what_describes_this_job_is_not_for_one_that_a_task_submits(name: str, private: bool) -> None:
    """... while what says where the batch system is stays."""
    assert bool(registry.private_variables().fullmatch(name.encode())) is private


def test_a_task_does_not_see_that_agents_are_a_step_or_ranks() -> None:
    environ = {b"SLURM_PROCID": b"0", b"SLURM_JOB_ID": b"5", b"FLUX_TASK_RANK": b"0", b"PATH": b"/bin"}
    assert set(base_environment(environ, "a", {}, ["slurm"])) == {b"SLURM_JOB_ID", b"PATH", b"PILOTFISH_AGENT_ID"}
    kept = {b"SLURM_PROCID", b"SLURM_JOB_ID", b"PATH", b"PILOTFISH_AGENT_ID"}
    assert set(base_environment(environ, "a", {}, ["common"])) == kept
