"""Execution model `mpich`: the Hydra launcher of MPICH (and of MVAPICH, which is made from it).

Hydra binds by the number of a rank on its node, in the same way on all nodes; where the nodes differ a shell line binds. Hydra
does not recognise every batch system; what it must be told is with the system. With others it finds its way (or uses ssh).
"""

from __future__ import annotations

from collections.abc import Sequence

from .base import Place, Wrapped, by_rank, cpus_of


def wrap(words: Sequence[str], place: Place) -> Wrapped:
    argv = [place.options.get("mpirun", "mpiexec.hydra"), "-n", str(len(place.cores))]
    env: dict[str, str] = {}
    files: dict[str, str] = {}
    if place.is_local:
        env |= {"HYDRA_LAUNCHER": "fork", "HYDRA_RMK": "user"}
    else:
        hostfile = f"{place.stem}.hosts"
        files[hostfile] = "".join(f"{host}:{ranks}\n" for host, ranks in place.hosts)
        argv += ["-f", hostfile]
        env |= place.system.model_variables.get("mpich", {})
    alike = all(node.core_ids == place.nodes[0].core_ids for node in place.nodes)
    if place.bound and alike:
        argv += ["-bind-to", "user:" + ",".join("+".join(cpus_of(core)) for core in place.nodes[0].core_ids)]
    argv += place.options.get("mpirun_args", [])
    return Wrapped([*argv, *by_rank(words, place, "PMI_RANK", bind=not alike)], env, files)
