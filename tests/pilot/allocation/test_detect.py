"""What each batch system gave us. Slurm and Grid Engine: recorded on real ones.

PBS, Torque, LSF, PJM and Flux could not be had here: theirs is made by hand from their manuals.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest

from pilotfish.pilot.allocation.base import Allocation, Site
from pilotfish.pilot.allocation.detect import detect
from pilotfish.pilot.allocation.site import this_site
from pilotfish.pilot.model.errors import SettingsError
from pilotfish.pilot.model.resources import NodeSpec

RECORDED = Path(__file__).parent / "recorded"
MIB = 1 << 20


def site(
    environ: dict[str, str],
    *,
    hostname: str = "node1",
    cpus: Sequence[int] = (0, 1),
    files: dict[str, str] | None = None,
    outputs: dict[str, str] | None = None,
) -> Site:
    """A machine with these variables, files by path and command outputs by the first words of the command."""

    def run(command: Sequence[str]) -> str | None:
        line = " ".join(command)
        return next((text for start, text in (outputs or {}).items() if line.startswith(start)), None)

    return Site(environ, hostname, tuple(cpus), 8 << 30, 1000.0, (files or {}).get, run)


def recorded(name: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (RECORDED / name).read_text().splitlines())


def cores_of(found: Allocation) -> dict[str, int]:
    return {node.name: len(node.core_ids) for node in found.nodes}


# --- Slurm --------------------------------------------------------------------------------------------------------------


def test_slurm_nodes_and_cores_come_from_its_variables() -> None:
    found = detect(site(recorded("slurm-uneven.env")))
    assert (found.kind, found.job_id) == ("slurm", "11")
    assert cores_of(found) == {"node1": 4, "node2": 4, "node3": 1}
    assert [source.where for source in found.sources] == ["SLURM_JOB_NODELIST", "SLURM_JOB_CPUS_PER_NODE"]
    assert found.ends_s is None


def test_slurm_tells_the_end_through_scontrol() -> None:
    outputs = {"scontrol show job -d 6": (RECORDED / "scontrol-two-nodes.txt").read_text()}
    found = detect(site(recorded("slurm-two-nodes.env"), outputs=outputs))
    assert found.ends_s == datetime(2026, 11, 20, 22, 4, 14).timestamp()
    assert found.sources[-1].where == "scontrol show job -d 6"


def test_slurm_tells_the_end_in_newer_versions_itself() -> None:
    assert detect(site(recorded("slurm-two-nodes.env") | {"SLURM_JOB_END_TIME": "1700000000"})).ends_s == 1_700_000_000


def test_slurm_cores_are_bound_where_it_has_confined_us_to_as_many() -> None:
    found = detect(site(recorded("slurm-two-nodes.env"), cpus=(8, 9, 10, 11)))
    assert found.nodes == (
        NodeSpec("node1", ("8", "9", "10", "11"), bind=True),
        NodeSpec("node2", ("0", "1", "2", "3")),
    )


def test_slurm_gpus_are_told_for_each_node_or_taken_for_alike() -> None:
    assert [node.gpu_ids for node in detect(site(recorded("slurm-gpus.env"))).nodes] == [("0", "1")] * 2
    told = """     Nodes=node1 CPU_IDs=0-1 Mem=500 GRES=gpu:2(IDX:0-1)
     Nodes=node2 CPU_IDs=0-1 Mem=600 GRES=gpu:a:1(IDX:3)
"""
    nodes = detect(site(recorded("slurm-gpus.env"), outputs={"scontrol": told})).nodes
    assert [(node.gpu_ids, node.mem_bytes) for node in nodes] == [(("0", "1"), 500 * MIB), (("3",), 600 * MIB)]


def test_slurm_memory_per_core_or_per_node() -> None:
    environ = recorded("slurm-memory.env")
    assert detect(site(environ)).nodes[0].mem_bytes == 200 * MIB
    assert detect(site(environ | {"SLURM_MEM_PER_NODE": "700"})).nodes[0].mem_bytes == 700 * MIB


def test_slurm_counts_that_do_not_fit_the_hosts_are_an_error() -> None:
    environ = recorded("slurm-two-nodes.env") | {"SLURM_JOB_CPUS_PER_NODE": "4(x3)"}
    with pytest.raises(SettingsError) as caught:
        detect(site(environ))
    assert str(caught.value) == (
        "SLURM_JOB_CPUS_PER_NODE: 3 counts (4(x3)) for the 2 nodes of SLURM_JOB_NODELIST (node[1-2]); "
        "start the pilot in the batch script itself, or say --nodes"
    )


# --- PBS, Torque --------------------------------------------------------------------------------------------------------

PBS = {"PBS_JOBID": "7.srv", "PBS_NODEFILE": "/nodes"}
QSTAT = """Job Id: 7.srv
    Resource_List.walltime = 01:00:00
    exec_vnode = (node1:ncpus=4:mem=8gb:ngpus=1)+(node2:ncpus=2:mem=4194304kb)+(
\tnode2:ncpus=1)
    stime = Fri Nov 20 21:00:00 2026
"""


def test_pbs_cores_come_from_exec_vnode_because_the_file_counts_ranks() -> None:
    found = detect(site(PBS, files={"/nodes": "node1.x\nnode2.x\nnode2.x\n"}, outputs={"qstat -f 7.srv": QSTAT}))
    assert found.kind == "pbs"
    assert cores_of(found) == {"node1.x": 4, "node2.x": 3}
    assert [(node.gpu_ids, node.mem_bytes) for node in found.nodes] == [(("0",), 8 << 30), ((), 4 << 30)]
    assert found.ends_s == datetime(2026, 11, 20, 22, 0).timestamp()


def test_pbs_without_qstat_counts_lines_and_its_own_ncpus() -> None:
    found = detect(site(PBS | {"NCPUS": "4"}, files={"/nodes": "node1\nnode2\n"}))
    assert cores_of(found) == {"node1": 4, "node2": 1}


def test_torque_has_a_line_for_each_core() -> None:
    found = detect(site(PBS | {"PBS_NUM_PPN": "2"}, files={"/nodes": "node1\nnode1\nnode2\nnode2\n"}))
    assert (found.kind, cores_of(found)) == ("torque", {"node1": 2, "node2": 2})


@pytest.mark.parametrize(
    ("files", "outputs", "error"),
    [
        ({}, {}, 'PBS_NODEFILE: "/nodes" cannot be read; say --nodes to go on without it'),
        ({"/nodes": "\n"}, {}, "PBS_NODEFILE: names an empty file; say --nodes to go on without it"),
        (
            {"/nodes": "node1\nnode9\n"},
            {"qstat": QSTAT},
            "qstat -f 7.srv: PBS_NODEFILE and exec_vnode do not agree on node2, node9",
        ),
    ],
)
def test_a_pbs_node_file_that_is_of_no_use_is_an_error(
    files: dict[str, str], outputs: dict[str, str], error: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        detect(site(PBS, files=files, outputs=outputs))
    assert str(caught.value) == error


# --- LSF ----------------------------------------------------------------------------------------------------------------


def test_lsf_hosts_and_slots_are_pairs() -> None:
    environ = {"LSB_JOBID": "9", "LSB_MCPU_HOSTS": "node1 16 node2 8"}
    found = detect(site(environ, outputs={"bjobs -noheader -o time_left 9": "0:58 L\n"}))
    assert (found.kind, cores_of(found)) == ("lsf", {"node1": 16, "node2": 8})
    assert found.ends_s == 1000 + 58 * 60


def test_lsf_with_jsm_leaves_the_launch_host_out() -> None:
    environ = {"LSB_JOBID": "9", "LSB_MCPU_HOSTS": "batch5 1 node1 42 node2 42", "CSM_ALLOCATION_ID": "3"}
    assert cores_of(detect(site(environ, hostname="batch5"))) == {"node1": 42, "node2": 42}


def test_lsf_affinity_tells_the_cores() -> None:
    environ = {"LSB_JOBID": "9", "LSB_MCPU_HOSTS": "node1 2 node2 2", "LSB_AFFINITY_HOSTFILE": "/a"}
    found = detect(site(environ, files={"/a": "node1 0,4\nnode1 1,5 0 1\nnode2 2\nnode2 3\n"}))
    assert [node.core_ids for node in found.nodes] == [("0", "4", "1", "5"), ("2", "3")]
    assert all(node.bind for node in found.nodes)


def test_lsf_words_that_are_no_pairs_are_an_error() -> None:
    with pytest.raises(SettingsError, match='LSB_MCPU_HOSTS: "node1 many" is not pairs of host and slots'):
        detect(site({"LSB_JOBID": "9", "LSB_MCPU_HOSTS": "node1 many"}))


# --- Grid Engine --------------------------------------------------------------------------------------------------------

SGE = {"JOB_ID": "39", "SGE_ROOT": "/sge", "NSLOTS": "7", "PE_HOSTFILE": "/pe"}
PE_HOSTFILE = "node2 3 all.q@node2 UNDEFINED\nnode1 2 all.q@node1 UNDEFINED\nnode3 2 all.q@node3 UNDEFINED\n"


def test_grid_engine_slots_come_from_its_host_file() -> None:
    found = detect(site(SGE, hostname="node2", files={"/pe": PE_HOSTFILE}))
    assert (found.kind, cores_of(found)) == ("sge", {"node2": 3, "node1": 2, "node3": 2})


def test_grid_engine_without_a_parallel_environment_is_this_host() -> None:
    assert cores_of(detect(site({"JOB_ID": "4", "SGE_ROOT": "/sge", "NSLOTS": "1"}))) == {"node1": 1}


def test_grid_engine_tells_limit_and_start_in_two_commands() -> None:
    outputs = {
        "qstat -j 39": "hard resource_list:         h_rt=600\n",
        "qstat -s r -xml": "<JB_job_number>39</JB_job_number>\n<JAT_start_time>2026-11-20T21:37:37</JAT_start_time>",
    }
    found = detect(site(SGE, files={"/pe": PE_HOSTFILE}, outputs=outputs))
    assert found.ends_s == datetime(2026, 11, 20, 21, 47, 37).timestamp()


def test_grid_engine_slots_that_do_not_add_up_are_an_error() -> None:
    with pytest.raises(SettingsError, match="NSLOTS"):
        detect(site(SGE | {"NSLOTS": "9"}, files={"/pe": PE_HOSTFILE}))


# --- PJM, Flux ----------------------------------------------------------------------------------------------------------


def test_pjm_nodes_are_whole_and_alike() -> None:
    environ = {"PJM_JOBID": "5", "PJM_O_NODEINF": "/n", "PJM_NODE": "2"}
    found = detect(site(environ, cpus=(12, 13), files={"/n": "a\nb\n"}))
    assert found.nodes == (NodeSpec("a", ("12", "13"), bind=True), NodeSpec("b", ("12", "13"), bind=True))
    with pytest.raises(SettingsError, match="PJM_NODE: 3 nodes were given and PJM_O_NODEINF names 2"):
        detect(site(environ | {"PJM_NODE": "3"}, files={"/n": "a\nb\n"}))


def test_flux_tells_everything_in_one_answer() -> None:
    resource_set = {
        "version": 1,
        "execution": {
            "R_lite": [
                {"rank": "0-1", "children": {"core": "0-3", "gpu": "0"}},
                {"rank": "2", "children": {"core": "5"}},
            ],
            "nodelist": ["n[1-2]", "x"],
            "expiration": 2000.0,
        },
    }
    found = detect(site({"FLUX_JOB_ID": "f1"}, outputs={"flux resource R": json.dumps(resource_set)}))
    four = ("0", "1", "2", "3")
    assert found.nodes == (NodeSpec("n1", four, ("0",)), NodeSpec("n2", four, ("0",)), NodeSpec("x", ("5",)))
    assert (found.kind, found.job_id, found.ends_s) == ("flux", "f1", 2000.0)


@pytest.mark.parametrize("answer", [None, "no", "{}", '{"execution": {"nodelist": ["a"], "R_lite": []}}'])
def test_flux_without_a_resource_set_is_an_error(answer: str | None) -> None:
    with pytest.raises(SettingsError, match=r"^flux resource R: "):
        detect(site({"FLUX_URI": "x"}, outputs={} if answer is None else {"flux": answer}))


# --- which of them ------------------------------------------------------------------------------------------------------


def test_what_is_said_wins_over_what_is_found() -> None:
    environ = recorded("slurm-two-nodes.env")
    assert detect(site(environ), "a:3").nodes == (NodeSpec("a", ("0", "1", "2")),)
    assert detect(site(environ), resources="local").kind == "local"
    with pytest.raises(SettingsError, match='--resources: "slrum" is not known; use one of auto, slurm'):
        detect(site(environ), resources="slrum")


def test_a_system_that_is_asked_for_must_be_there() -> None:
    with pytest.raises(SettingsError, match="SLURM_JOB_ID: is not set"):
        detect(site({}), resources="slurm")


def test_a_part_of_the_nodes_can_be_used() -> None:
    environ = recorded("slurm-uneven.env")
    assert cores_of(detect(site(environ), part=(1, None))) == {"node2": 4, "node3": 1}
    with pytest.raises(SettingsError, match="none of the 3 nodes is left"):
        detect(site(environ), part=(5, None))


def test_the_real_machine_is_found_without_a_batch_system() -> None:
    (node,) = detect(this_site({})).nodes
    assert node.core_ids
    assert node.mem_bytes > 0
