"""What launchers and libraries that a task starts itself are told of the cores it was given.

The execution models start a launcher and tell it all. This is for `mpirun` in a script, in the models `default` and
`threads`: its ranks are to stay on the task's cores, whatever else runs on the node. What the user has
set stays: in the job, or where the pilot was started. docs/execution-models.md has the table.

Three cases:

- The task is bound to cores of this machine: its launchers see a machine that has no others (agent/topologies.py). More ranks
  than cores are allowed, as on any machine whose cores nobody has counted. Without such a file nothing is bound, and ranks stay
  where the affinity they inherit leaves them.
- It has a part of the machine, but nobody knows which: nothing is bound, or all tasks' ranks were on the first cores.
- It has all of the machine: it may do as it likes.
"""

from __future__ import annotations

from collections.abc import Iterable

UNBOUND = {
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}
"""For Open MPI 4, and for 5 (PRRTE). Hydra binds only when it is asked to."""
_OVERSUBSCRIBE = {
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def on_cores(cpus: Iterable[int], topology: str) -> dict[str, str]:
    """For a task bound to these processors of its only node; `topology`: the file that shows them, empty for none."""
    if not topology:
        # Open MPI 5 stays among these even with --bind-to core; 4 has a list too, but refuses --map-by then.
        return UNBOUND | {"PRTE_MCA_hwloc_default_cpu_list": ",".join(map(str, sorted(cpus)))}
    return {"HWLOC_XMLFILE": topology, "HWLOC_THISSYSTEM": "1"} | _OVERSUBSCRIBE


def on_part() -> dict[str, str]:
    """For a task that has some of the cores of its nodes, as many as it was given and no certain ones.

    Intel MPI respects the affinity of a task that is bound.
    """
    return UNBOUND | {"I_MPI_PIN": "0"}


NAMES = tuple({**on_cores([0], ""), **on_cores([0], "file"), **on_part()})
"""All variables that these may set."""
