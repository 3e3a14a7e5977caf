"""The same batch system from inside: nodes, cores and the job's number are in variables. A line in the pilot's registry."""

from __future__ import annotations

from collections.abc import Mapping

from pilotfish.pilot.agent_launchers.base import AgentLauncher
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.systems.base import Allocation, BatchSystem, HostEnvironment, Source, check_nodes, need, one_by_one


def inside(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("TOY_JOB"))


def find(host_env: HostEnvironment) -> Allocation:
    cores = tuple(str(number) for number in range(int(need(host_env, "TOY_CPUS")[0])))
    nodes = [NodeSpec(host, cores, bind=False) for host in need(host_env, "TOY_HOSTS")[0].split(",")]
    source = Source("nodes", ", ".join(node.name for node in nodes), "TOY_HOSTS")
    return Allocation("toy", tuple(check_nodes(nodes, "TOY_HOSTS")), host_env.environ["TOY_JOB"], None, (source,))


SYSTEM = BatchSystem("toy", "the toy box", inside, find, AgentLauncher("toyrun", one_by_one("toyrun", "--on")))
