"""Every agent launcher's command line, as the manuals have it; and the command that becomes the agent."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from pilotfish.pilot.agent_launchers.command import AgentCommand, check, workers_for
from pilotfish.pilot.model.errors import SettingsError
from pilotfish.pilot.own_python import pilotfish
from pilotfish.pilot.systems.registry import GIVEN, SYSTEMS, launcher_for, launchers

LAUNCHERS = launchers()

EXPECTED = {
    "fork": "X Y",
    "srun": "srun --overlap --cpu-bind=none --mem=0 --ntasks-per-node=1 --kill-on-bad-exit=0 --no-kill --wait=0 --input=none "
    "--label --unbuffered --export=ALL --nodes=2 --ntasks=2 --nodelist=n1,n2 X Y",
    "pbs_tmrsh": "pbs_tmrsh n1 X Y",
    "pbsdsh": "pbsdsh -h n1 X Y",
    "blaunch": "blaunch -no-shell n1 X Y",
    "qrsh": "qrsh -inherit -nostdin -V n1 X Y",
    "mpiexec": "mpiexec -np 2 --host n1,n2 --map-by ppr:1:node --bind-to none --oversubscribe X Y",
    "hydra": "mpiexec.hydra -n 2 -hosts n1,n2 -ppn 1 -bind-to none X Y",
    "pjm": "mpiexec -n 2 X Y",
    "flux": "flux exec --noinput --rank=all X Y",
    "ssh": "ssh -T -o BatchMode=yes -o ConnectTimeout=15 -o ServerAliveInterval=10 -o ServerAliveCountMax=3 n1 X Y",
}

COMMAND = AgentCommand("/opt/python", Path("/wd/connection.json"))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_command_line_of_a_launcher(name: str) -> None:
    launcher = LAUNCHERS[name]
    nodes = ["n1", "n2"] if launcher.at_once else ["n1"]
    assert launcher.argv(nodes, ["X", "Y"]) == EXPECTED[name].split()
    assert launcher.argv(nodes, ["X", "Y"]) == launcher.argv(nodes, ["X", "Y"])


def test_every_kind_of_allocation_has_its_launcher() -> None:
    assert {kind: launcher_for(kind, None).name for kind in (*(system.name for system in SYSTEMS), GIVEN)} == {
        "slurm": "srun",
        "pbs": "pbs_tmrsh",
        "torque": "pbsdsh",
        "lsf": "blaunch",
        "sge": "qrsh",
        "pjm": "pjm",
        "flux": "flux",
        "local": "fork",
        "given": "fork",
    }
    assert launcher_for("slurm", "ssh").name == "ssh"


def test_a_launcher_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(SettingsError, match=r'--agent-launcher: "rsh" is not known; use one of fork, .*ssh, srun, .*'):
        launcher_for("slurm", "rsh")


def test_one_agent_needs_no_shell() -> None:
    words = COMMAND.for_node(LAUNCHERS["srun"], "n1", "n1-abc", "n1-old")
    assert words[:6] == pilotfish("/opt/python", "agent", "--connect", "/wd/connection.json")
    assert words[6:] == ["--watched", "--node", "n1", "--agent-id", "n1-abc", "--replaces", "n1-old"]


def test_what_another_shell_takes_apart_is_quoted_for_it(tmp_path: Path) -> None:
    """ssh and qrsh join the words with blanks; the far shell must get back what we meant."""
    command = AgentCommand("/opt/my python", Path("/w d/it's.json"), "export A='1 2'")
    joined = " ".join(command.for_node(LAUNCHERS["ssh"], "n1", "n1-abc", None))
    script = f'set -- {joined}; printf "%s\\n" "$#" "$3"'
    told = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert told[0] == "3"
    assert told[1:] == [
        "export A='1 2'",
        f"exec {shlex.join(pilotfish('/opt/my python', 'agent', '--connect'))} '/w d/it'\"'\"'s.json'"
        " --watched --node n1 --agent-id n1-abc",
    ]


@pytest.mark.parametrize("environ", [{"SLURMD_NODENAME": "n7"}, {}])
def test_an_agent_started_on_all_nodes_finds_out_which_it_is(tmp_path: Path, environ: dict[str, str]) -> None:
    """... after the prelude, with a log of its own."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@" $MARK\n')
    python.chmod(0o755)
    command = AgentCommand(str(python), tmp_path / "connection.json", "MARK=prelude; export MARK")
    words = command.for_all(LAUNCHERS["srun"], "abc")
    subprocess.run(words, check=True, env={"PATH": os.environ["PATH"], **environ})
    name = environ.get("SLURMD_NODENAME") or os.uname().nodename
    said = (tmp_path / f"agent-{name}.log").read_text().strip()
    assert (
        said
        == f"{' '.join(pilotfish(str(python), 'agent')[1:])} --connect {tmp_path}/connection.json --watched --node {name}"
        f" --agent-id {name}-abc prelude"
    )


def test_ssh_reads_the_keys_from_its_input_and_no_command_line_has_them() -> None:
    command = AgentCommand("python3", Path("/wd/c.json"), by_variable=True)
    words = command.for_node(LAUNCHERS["ssh"], "n1", "n1-abc", None)
    assert "read -r PILOTFISH_CONNECT" in words[2]


def test_a_launcher_that_carries_nothing_cannot_be_asked_to() -> None:
    with pytest.raises(SettingsError, match="pbs_tmrsh cannot carry a variable"):
        check(AgentCommand("python3", Path("/c"), by_variable=True), LAUNCHERS["pbs_tmrsh"])


def test_agents_on_one_host_share_its_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    assert [workers_for(LAUNCHERS["fork"], nodes) for nodes in (1, 4, 100)] == [
        ("--workers", "6"),
        ("--workers", "2"),
        ("--workers", "1"),
    ]
    assert workers_for(LAUNCHERS["ssh"], 100) == (), "each on a host of its own"
