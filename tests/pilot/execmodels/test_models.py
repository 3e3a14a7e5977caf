"""Command lines, variables and files of the execution models, whole."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from pilotfish.pilot.execmodels.base import LaunchError, Place, Wrapped
from pilotfish.pilot.execmodels.choose import WRAPS, wrap_of
from pilotfish.pilot.model.execution_models import MODEL_OPTIONS
from pilotfish.pilot.wire.frames import NodeShare

NODES = [NodeShare("n1", ["4", "5"], []), NodeShare("n2", ["0"], [])]
CLUSTER = Place(NODES, bound=True, here=False, batch="slurm", stem="/aux/job.1-1", of_job=["SEED"])
VIRTUAL = Place(NODES, bound=False, here=True, batch="given", stem="/aux/job.1-1", of_job=["SEED"])
WITH_GPUS = replace(
    CLUSTER, nodes=[NodeShare("n1", ["4"], ["0", "1"]), NodeShare("n2", ["0"], ["2", "3"])], gpus="CUDA_VISIBLE_DEVICES"
)
ON_ONE_NODE = replace(CLUSTER, nodes=[NodeShare("n1", ["4&12", "5&13"], [])])


def wrapped(model: str, place: Place) -> Wrapped:
    return wrap_of(model)(["prog", "a b"], place)


def test_every_model_that_a_description_may_name_is_there() -> None:
    assert list(WRAPS) == list(MODEL_OPTIONS)


def test_a_model_there_is_not() -> None:
    with pytest.raises(LaunchError, match="unknown job execution model 'x'; known are default, "):
        wrap_of("x")


def test_default_lays_a_host_file_ready() -> None:
    assert wrapped("default", VIRTUAL) == Wrapped(
        ["prog", "a b"], {"PILOTFISH_HOSTFILE": "/aux/job.1-1.hostfile"}, {"/aux/job.1-1.hostfile": "n1\nn1\nn2\n"}
    )


def test_default_in_slurm_tells_slurm_the_hosts() -> None:
    assert wrapped("default", CLUSTER).env == {
        "PILOTFISH_HOSTFILE": "/aux/job.1-1.hostfile",
        "SLURM_HOSTFILE": "/aux/job.1-1.hostfile",
        "HYDRA_LAUNCHER_EXTRA_ARGS": "--cpu-bind=none",
    }


def test_openmpi_over_nodes_has_a_rank_file_and_sends_the_jobs_variables() -> None:
    made = wrapped("openmpi", CLUSTER)
    files = "--hostfile /aux/job.1-1.hosts --rankfile /aux/job.1-1.ranks"
    assert shlex.join(made.argv) == f"mpirun -n 3 {files} -x SEED prog 'a b'"
    assert made.env == {"OMPI_MCA_rmaps_rank_file_physical": "1", "SLURM_CPU_BIND": "none"}
    assert made.files == {
        "/aux/job.1-1.hosts": "n1 slots=2\nn2 slots=1\n",
        "/aux/job.1-1.ranks": "rank 0=n1 slot=4\nrank 1=n1 slot=5\nrank 2=n2 slot=0\n",
    }


def test_openmpi_on_virtual_nodes_starts_all_ranks_here_and_binds_none() -> None:
    made = wrapped("openmpi", replace(VIRTUAL, options={"mpirun": "/opt/mpirun", "mpirun_args": ["-q"]}))
    assert made.argv == ["/opt/mpirun", "-n", "3", "--hostfile", "/aux/job.1-1.hosts", "-q", "prog", "a b"]
    assert made.files == {"/aux/job.1-1.hosts": "localhost slots=3\n"}
    assert made.env["OMPI_MCA_hwloc_base_binding_policy"] == "none"
    assert made.env["OMPI_MCA_plm"] == "isolated"


def test_openmpi_gives_a_rank_all_hardware_threads_of_its_core() -> None:
    ranks = wrapped("openmpi", ON_ONE_NODE).files["/aux/job.1-1.ranks"]
    assert ranks == "rank 0=localhost slot=4,12\nrank 1=localhost slot=5,13\n"


def test_mpich_where_nodes_differ_binds_by_rank() -> None:
    made = wrapped("mpich", CLUSTER)
    assert made.argv[:6] == ["mpiexec.hydra", "-n", "3", "-f", "/aux/job.1-1.hosts", "/bin/sh"]
    assert made.argv[7].splitlines() == [
        'case "$PMI_RANK" in',
        '0) exec taskset -c 4 "$@" ;;',
        '1) exec taskset -c 5 "$@" ;;',
        '2) exec taskset -c 0 "$@" ;;',
        "esac",
        'exec "$@"',
    ]
    assert made.argv[8:] == ["sh", "prog", "a b"]
    assert made.files == {"/aux/job.1-1.hosts": "n1:2\nn2:1\n"}


def test_mpich_on_one_node_binds_by_itself() -> None:
    assert wrapped("mpich", ON_ONE_NODE) == Wrapped(
        ["mpiexec.hydra", "-n", "2", "-bind-to", "user:4+12,5+13", "prog", "a b"],
        {"HYDRA_LAUNCHER": "fork", "HYDRA_RMK": "user"},
    )


def test_intelmpi_has_a_section_with_the_program_for_each_node() -> None:
    made = wrapped("intelmpi", CLUSTER)
    first = "-host n1 -n 2 -env I_MPI_PIN_DOMAIN '[0x10,0x20]' prog 'a b'"
    second = "-host n2 -n 1 -env I_MPI_PIN_DOMAIN '[0x1]' prog 'a b'"
    assert shlex.join(made.argv) == f"mpirun {first} : {second}"
    assert made.env["I_MPI_PIN"] == "1"


def test_srunmpi_is_a_step_on_the_cores_of_the_task() -> None:
    made = wrapped("srunmpi", replace(CLUSTER, options={"srun_args": ["--mpi=pmi2"]}, mem_bytes=(100 << 20) - 1))
    where = "--ntasks=3 --nodes=2 --distribution=arbitrary --cpu-bind=none"
    assert shlex.join(made.argv[:8]) == f"srun {where} --overcommit --mem=100 --mpi=pmi2"
    assert made.argv[8:10] == ["/bin/sh", "-c"]
    assert '2) exec taskset -c 0 "$@" ;;' in made.argv[10]
    assert made.argv[11:] == ["sh", "prog", "a b"]
    assert made.files == {"/aux/job.1-1.hostfile": "n1\nn1\nn2\n"}
    assert made.env == {"SLURM_OVERLAP": "1", "SLURM_HOSTFILE": "/aux/job.1-1.hostfile"}


def test_flux_chooses_the_nodes_and_a_shell_line_binds() -> None:
    nodes = [NodeShare("n1", ["4"], []), NodeShare("n2", ["0"], [])]
    made = wrapped("flux", replace(CLUSTER, batch="flux", nodes=nodes))
    where = "--nodes=2 --ntasks=2 --requires=hosts:n1,n2 --setopt=cpu-affinity=off"
    assert shlex.join(made.argv).startswith(f"flux run {where} ")
    assert 'exec taskset -c 4 "$@"' in made.argv[9]


def test_flux_wants_as_many_cores_on_each_node() -> None:
    with pytest.raises(LaunchError, match="as many cores on each node"):
        wrapped("flux", replace(CLUSTER, batch="flux"))


@pytest.mark.parametrize(("model", "whose"), [("srunmpi", "Slurm"), ("flux", "Flux")])
def test_models_of_one_batch_system_say_so_elsewhere(model: str, whose: str) -> None:
    with pytest.raises(LaunchError, match=f"needs the nodes of a {whose} .*'given'; use openmpi"):
        wrapped(model, VIRTUAL)


@pytest.mark.parametrize("model", ["openmpi", "intelmpi", "mpich", "srunmpi"])
def test_ranks_on_each_node_see_the_gpus_there(model: str) -> None:
    (script,) = [word for word in wrapped(model, WITH_GPUS).argv if "export" in word][:1]
    assert "0) export CUDA_VISIBLE_DEVICES=0,1 ;;\n1) export CUDA_VISIBLE_DEVICES=2,3 ;;" in script
