"""Execution model `openmpi`: Open MPI's mpirun, with a rank file that says which rank goes to which core.

What could be said on the command line or in a variable is said in a variable, so that a job's `mpirun_args` win. The names that
begin with PRTE are those of Open MPI 5, which has no variable for the rank file; 4.1 and 5.0 were tried.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..systems.registry import openmpi_components
from .base import Place, Wrapped, by_rank, cpus_of

_NO_BATCH_SYSTEM = f"^{','.join(openmpi_components())}"
"""None of Open MPI's own ways to find nodes."""


def wrap(words: Sequence[str], place: Place) -> Wrapped:
    hostfile, rankfile = f"{place.stem}.hosts", f"{place.stem}.ranks"
    files = {hostfile: "".join(f"{host} slots={ranks}\n" for host, ranks in place.hosts)}
    argv = [place.options.get("mpirun", "mpirun"), "-n", str(len(place.cores)), "--hostfile", hostfile]
    env: dict[str, str] = {}
    if place.bound:
        files[rankfile] = _rankfile(place)
        argv += ["--rankfile", rankfile]
        env["OMPI_MCA_rmaps_rank_file_physical"] = "1"  # Open MPI 4 would count the cores in an order of its own
    else:
        # By default ranks are bound to the first cores of the machine, whoever else is there.
        env |= dict.fromkeys(("OMPI_MCA_hwloc_base_binding_policy", "PRTE_MCA_hwloc_default_binding_policy"), "none")
    if place.is_local:
        env |= {"OMPI_MCA_plm": "isolated", "OMPI_MCA_ras": _NO_BATCH_SYSTEM, "PRTE_MCA_ras": _NO_BATCH_SYSTEM}
    else:
        env |= place.system.model_variables.get("openmpi", {})
        for name in place.of_job:
            argv += ["-x", name]
    argv += place.options.get("mpirun_args", [])
    return Wrapped([*argv, *by_rank(words, place, "OMPI_COMM_WORLD_RANK")], env, files)


def _rankfile(place: Place) -> str:
    hosts = [host for host, ranks in place.hosts for _ in range(ranks)]
    lines = [
        f"rank {rank}={host} slot={','.join(cpus_of(core))}\n"
        for rank, (host, core) in enumerate(zip(hosts, place.cores, strict=True))
    ]
    return "".join(lines)
