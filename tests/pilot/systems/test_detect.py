"""What each batch system gave us. Slurm and Grid Engine: recorded on real ones.

PBS, Torque, LSF, PJM and Flux could not be had here: theirs is made by hand from their manuals.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from pilotfish.pilot.cpus import Cpus
from pilotfish.pilot.model.errors import SettingsError
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.systems.base import Allocation, HostEnvironment, Source
from pilotfish.pilot.systems.detect import detect
from pilotfish.pilot.systems.host_env import this_host

RECORDED = Path(__file__).parent / "recorded"
MIB = 1 << 20


def host_env(
    environ: dict[str, str],
    *,
    hostname: str = "node1",
    cpus: Sequence[int] = (0, 1),
    files: dict[str, str] | None = None,
    outputs: dict[str, str] | None = None,
) -> HostEnvironment:
    """A machine with these variables, files by path and command outputs by the first words of the command."""

    def run(command: Sequence[str]) -> str | None:
        line = " ".join(command)
        return next((text for start, text in (outputs or {}).items() if line.startswith(start)), None)

    cores = tuple((number,) for number in cpus)
    return HostEnvironment(environ, hostname, Cpus((cores,)), 8 << 30, 1000.0, (files or {}).get, run)


def recorded(name: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (RECORDED / name).read_text().splitlines())


def cores_of(found: Allocation) -> dict[str, int]:
    return {node.name: len(node.core_ids) for node in found.nodes}


# --- Slurm --------------------------------------------------------------------------------------------------------------


def test_slurm_nodes_and_cores_come_from_its_variables() -> None:
    found = detect(host_env(recorded("slurm-uneven.env")))
    assert (found.kind, found.job_id) == ("slurm", "11")
    assert cores_of(found) == {"node1": 4, "node2": 4, "node3": 1}
    assert [source.where for source in found.sources] == ["SLURM_JOB_NODELIST", "SLURM_JOB_CPUS_PER_NODE"]
    assert found.ends_s is None


def test_slurm_tells_the_end_through_scontrol() -> None:
    outputs = {"scontrol show job -d 6": (RECORDED / "scontrol-two-nodes.txt").read_text()}
    found = detect(host_env(recorded("slurm-two-nodes.env"), outputs=outputs))
    assert found.ends_s == datetime(2026, 11, 20, 22, 4, 14).timestamp()
    assert found.sources[-1].where == "scontrol show job -d 6"


def test_slurm_tells_the_end_in_newer_versions_itself() -> None:
    assert (
        detect(host_env(recorded("slurm-two-nodes.env") | {"SLURM_JOB_END_TIME": "1700000000"})).ends_s == 1_700_000_000
    )


def test_slurm_cores_are_bound_where_it_has_confined_us_to_as_many() -> None:
    found = detect(host_env(recorded("slurm-two-nodes.env"), cpus=(8, 9, 10, 11)))
    assert found.nodes == (
        NodeSpec("node1", ("8", "9", "10", "11"), bind=True),
        NodeSpec("node2", ("0", "1", "2", "3")),
    )


def test_slurm_gpus_are_told_for_each_node_or_taken_for_alike() -> None:
    assert [node.gpu_ids for node in detect(host_env(recorded("slurm-gpus.env"))).nodes] == [("0", "1")] * 2
    told = """     Nodes=node1 CPU_IDs=0-1 Mem=500 GRES=gpu:2(IDX:0-1)
     Nodes=node2 CPU_IDs=0-1 Mem=600 GRES=gpu:a:1(IDX:3)
"""
    nodes = detect(host_env(recorded("slurm-gpus.env"), outputs={"scontrol": told})).nodes
    assert [(node.gpu_ids, node.mem_bytes) for node in nodes] == [(("0", "1"), 500 * MIB), (("3",), 600 * MIB)]


def test_slurm_memory_per_core_or_per_node() -> None:
    environ = recorded("slurm-memory.env")
    assert detect(host_env(environ)).nodes[0].mem_bytes == 200 * MIB
    assert detect(host_env(environ | {"SLURM_MEM_PER_NODE": "700"})).nodes[0].mem_bytes == 700 * MIB


def test_slurm_counts_that_do_not_fit_the_hosts_are_an_error() -> None:
    environ = recorded("slurm-two-nodes.env") | {"SLURM_JOB_CPUS_PER_NODE": "4(x3)"}
    with pytest.raises(SettingsError) as caught:
        detect(host_env(environ))
    assert str(caught.value) == (
        "SLURM_JOB_CPUS_PER_NODE: 3 counts (4(x3)) for the 2 nodes of SLURM_JOB_NODELIST (node[1-2]); "
        "start the pilot in the batch script itself, or give --nodes"
    )


def test_slurm_has_more_nodes_than_its_list_says() -> None:
    with pytest.raises(SettingsError, match="SLURM_JOB_NUM_NODES: 3, but 2 in SLURM_JOB_NODELIST"):
        detect(host_env(recorded("slurm-two-nodes.env") | {"SLURM_JOB_NUM_NODES": "3"}))


def test_slurm_shell_of_salloc_is_in_the_job_although_not_on_its_nodes() -> None:
    found = detect(host_env(recorded("slurm-salloc.env"), hostname="login"))
    assert (found.kind, cores_of(found)) == ("slurm", {"node1": 3, "node2": 1})
    assert not any(node.bind for node in found.nodes)


@pytest.mark.parametrize(("name", "count"), [("slurm-single-n2c2.env", 4), ("slurm-oversub.env", 1)])
def test_slurm_gives_processors_whatever_the_tasks(name: str, count: int) -> None:
    assert cores_of(detect(host_env(recorded(name)))) == {"node1": count}


def test_slurm_processors_of_a_part_of_a_node_have_its_ids_and_are_not_bound_to() -> None:
    told = "     Nodes=node[1-2] CPU_IDs=4-5,8-9 Mem=0 GRES=\n"
    found = detect(host_env(recorded("slurm-two-nodes.env"), cpus=range(16), outputs={"scontrol": told}))
    assert found.nodes == tuple(NodeSpec(name, ("4", "5", "8", "9")) for name in ("node1", "node2"))


def test_slurm_one_thread_per_core_makes_slots_of_whole_cores() -> None:
    """Eight processors are four cores of two threads each; Slurm counts eight."""
    cores = Cpus((((0, 4), (1, 5), (2, 6), (3, 7)),))
    environ = recorded("slurm-two-nodes.env") | {"SLURM_JOB_CPUS_PER_NODE": "8(x2)", "SLURM_MEM_PER_CPU": "100"}
    whole = detect(replace(host_env(environ | {"SLURM_HINT": "nomultithread"}), cpus=cores))
    assert whole.nodes[0] == NodeSpec("node1", ("0&4", "1&5", "2&6", "3&7"), (), 800 * MIB, bind=True)
    assert len(whole.nodes[1].core_ids) == 4
    threads = detect(replace(host_env(environ), cpus=cores))
    assert threads.nodes[0].core_ids == ("0", "1", "2", "3", "4", "5", "6", "7")


def test_slurm_counts_cores_where_each_has_two_threads() -> None:
    cores = Cpus((((0, 4), (1, 5), (2, 6), (3, 7)),))
    found = detect(replace(host_env(recorded("slurm-two-nodes.env")), cpus=cores))
    assert found.nodes[0].core_ids == ("0&4", "1&5", "2&6", "3&7")


# --- PBS, Torque --------------------------------------------------------------------------------------------------------

PBS = {"PBS_JOBID": "7.srv", "PBS_NODEFILE": "/nodes"}
QSTAT = """Job Id: 7.srv
    Resource_List.walltime = 01:00:00
    exec_vnode = (node1:ncpus=4:mem=8gb:ngpus=1)+(node2:ncpus=2:mem=4194304kb)+(
\tnode2:ncpus=1:mem=2gb)
    stime = Fri Nov 20 21:00:00 2026
"""


def test_pbs_cores_come_from_exec_vnode_because_the_file_counts_ranks() -> None:
    found = detect(host_env(PBS, files={"/nodes": "node1.x\nnode2.x\nnode2.x\n"}, outputs={"qstat -f 7.srv": QSTAT}))
    assert found.kind == "pbs"
    assert cores_of(found) == {"node1.x": 4, "node2.x": 3}
    assert [(node.gpu_ids, node.mem_bytes) for node in found.nodes] == [(("0",), 8 << 30), ((), 6 << 30)]
    assert found.ends_s == datetime(2026, 11, 20, 22, 0).timestamp()


def test_pbs_without_qstat_counts_lines_and_its_own_ncpus() -> None:
    found = detect(host_env(PBS | {"NCPUS": "4"}, files={"/nodes": "node1\nnode2\n"}))
    assert cores_of(found) == {"node1": 4, "node2": 1}


def test_torque_has_a_line_for_each_core() -> None:
    found = detect(host_env(PBS | {"PBS_NUM_PPN": "2"}, files={"/nodes": "node1\nnode1\nnode2\nnode2\n"}))
    assert (found.kind, cores_of(found)) == ("torque", {"node1": 2, "node2": 2})
    with pytest.raises(SettingsError, match="PBS_NP: 8 cores were given and PBS_NODEFILE has 1 lines"):
        detect(host_env(PBS | {"PBS_NUM_PPN": "2", "PBS_NP": "8"}, files={"/nodes": "node1\n"}))


def test_torque_tells_the_gpus_of_all_nodes_in_a_file_and_the_limit_in_a_variable() -> None:
    environ = PBS | {"PBS_NUM_PPN": "1", "PBS_GPUFILE": "/gpus", "PBS_WALLTIME": "600"}
    found = detect(
        host_env(environ, files={"/nodes": "node1\nnode2\n", "/gpus": "node1-gpu1\nnode1-gpu0\nnode2-gpu3\n"})
    )
    assert [node.gpu_ids for node in found.nodes] == [("1", "0"), ("3",)]
    assert found.ends_s == 1600
    assert found.sources[-1].where == "PBS_WALLTIME"


def test_each_of_the_two_families_of_pbs_is_told_from_the_other() -> None:
    """PBS Pro and OpenPBS are `pbs`, Torque is `torque`; asked for by the wrong name it is an error, not a guess."""
    torque = host_env(PBS | {"PBS_NUM_PPN": "2"}, files={"/nodes": "node1\nnode1\n"})
    assert detect(torque, resources="torque").kind == "torque"
    with pytest.raises(
        SettingsError, match=r"^PBS_NUM_PPN: is set, so this is a job of Torque; give --resources torque$"
    ):
        detect(torque, resources="pbs")
    assert detect(host_env(PBS, files={"/nodes": "node1\n"}), resources="openpbs").kind == "pbs"


@pytest.mark.parametrize(
    ("files", "outputs", "error"),
    [
        ({}, {}, 'PBS_NODEFILE: "/nodes" cannot be read; give --nodes to do without it'),
        ({"/nodes": "\n"}, {}, "PBS_NODEFILE: names an empty file; give --nodes to do without it"),
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
        detect(host_env(PBS, files=files, outputs=outputs))
    assert str(caught.value) == error


# --- LSF ----------------------------------------------------------------------------------------------------------------


def test_lsf_hosts_and_slots_are_pairs() -> None:
    environ = {"LSB_JOBID": "9", "LSB_MCPU_HOSTS": "node1 16 node2 8"}
    found = detect(host_env(environ, outputs={"bjobs -noheader -o time_left 9": "0:58 L\n"}))
    assert (found.kind, cores_of(found)) == ("lsf", {"node1": 16, "node2": 8})
    assert found.ends_s == 1000 + 58 * 60


def test_lsf_with_jsm_leaves_the_launch_host_out() -> None:
    environ = {"LSB_JOBID": "9", "LSB_MCPU_HOSTS": "batch5 1 node1 42 node2 42", "CSM_ALLOCATION_ID": "3"}
    assert cores_of(detect(host_env(environ, hostname="batch5"))) == {"node1": 42, "node2": 42}


def test_lsf_affinity_tells_the_cores() -> None:
    environ = {"LSB_JOBID": "9", "LSB_MCPU_HOSTS": "node1 2 node2 2", "LSB_AFFINITY_HOSTFILE": "/a"}
    found = detect(host_env(environ, files={"/a": "node1 0,4\nnode1 1,5 0 1\nnode2 2\nnode2 3\n"}))
    assert [node.core_ids for node in found.nodes] == [("0", "4", "1", "5"), ("2", "3")]
    assert all(node.bind for node in found.nodes)


def test_lsf_words_that_are_no_pairs_are_an_error() -> None:
    with pytest.raises(SettingsError, match='LSB_MCPU_HOSTS: "node1 many" is not pairs of host and slots'):
        detect(host_env({"LSB_JOBID": "9", "LSB_MCPU_HOSTS": "node1 many"}))


# --- Grid Engine --------------------------------------------------------------------------------------------------------

SGE = {"JOB_ID": "39", "SGE_ROOT": "/sge", "NSLOTS": "7", "PE_HOSTFILE": "/pe"}
PE_HOSTFILE = "node2 3 all.q@node2 UNDEFINED\nnode1 2 all.q@node1 UNDEFINED\nnode3 2 all.q@node3 UNDEFINED\n"


def test_grid_engine_slots_come_from_its_host_file() -> None:
    found = detect(host_env(SGE, hostname="node2", files={"/pe": PE_HOSTFILE}))
    assert (found.kind, cores_of(found)) == ("sge", {"node2": 3, "node1": 2, "node3": 2})


def test_grid_engine_without_a_parallel_environment_is_this_host() -> None:
    assert cores_of(detect(host_env({"JOB_ID": "4", "SGE_ROOT": "/sge", "NSLOTS": "1"}))) == {"node1": 1}


def test_grid_engine_tells_limit_and_start_in_two_commands() -> None:
    outputs = {
        "qstat -j 55": "hard resource_list:         h_rt=600,h_vmem=2G\n",
        "qstat -s r -xml": (RECORDED / "sge-running.xml").read_text(),
    }
    found = detect(host_env(SGE | {"JOB_ID": "55"}, files={"/pe": PE_HOSTFILE}, outputs=outputs))
    assert found.ends_s == datetime(2026, 11, 20, 21, 47, 37).timestamp()
    assert [node.mem_bytes >> 30 for node in found.nodes] == [6, 4, 4], "the limit is one for each slot"


def test_grid_engine_environments_as_recorded() -> None:
    environ = recorded("sge-mpi7.env")
    text = (RECORDED / "sge-mpi7.pe_hostfile").read_text()
    found = detect(host_env(environ, hostname="node2", cpus=(0, 1, 2), files={environ["PE_HOSTFILE"]: text}))
    assert cores_of(found) == {"node2": 3, "node1": 2, "node3": 2}
    assert [node.bind for node in found.nodes] == [True, False, False]
    for name in ("sge-array.env", "sge-named.env"):
        assert len(detect(host_env(recorded(name))).nodes[0].core_ids) == 1


def test_grid_engine_tells_the_start_of_each_task_of_an_array() -> None:
    def row(task: int, start: str) -> str:
        return (
            f"<job_list><JB_job_number>41</JB_job_number><JAT_start_time>{start}</JAT_start_time>"
            f"<tasks>{task}</tasks></job_list>"
        )

    xml = "<job_info>" + row(2, "2026-11-20T21:00:00") + row(4, "2026-11-20T22:00:00") + "</job_info>"
    outputs = {"qstat -j 41": "hard resource_list: h_rt=60\n", "qstat -s r -xml": xml}
    found = detect(host_env(recorded("sge-array.env"), outputs=outputs))
    assert found.ends_s == datetime(2026, 11, 20, 22, 1).timestamp()


def test_grid_engine_slots_that_do_not_add_up_are_an_error() -> None:
    with pytest.raises(SettingsError, match=r'^NSLOTS: "9", but 7 in PE_HOSTFILE; give --nodes'):
        detect(host_env(SGE | {"NSLOTS": "9"}, files={"/pe": PE_HOSTFILE}))
    with pytest.raises(SettingsError, match='PE_HOSTFILE line 1: "node2" is not host and slots'):
        detect(host_env(SGE, files={"/pe": "node2"}))


# --- PJM, Flux ----------------------------------------------------------------------------------------------------------


def test_pjm_nodes_are_whole_and_alike() -> None:
    environ = {"PJM_JOBID": "5", "PJM_O_NODEINF": "/n", "PJM_NODE": "2"}
    found = detect(host_env(environ, cpus=(12, 13), files={"/n": "a\nb\n"}))
    assert found.nodes == (NodeSpec("a", ("12", "13"), bind=True), NodeSpec("b", ("12", "13"), bind=True))
    with pytest.raises(SettingsError, match="PJM_NODE: 3 nodes were given and PJM_O_NODEINF names 2"):
        detect(host_env(environ | {"PJM_NODE": "3"}, files={"/n": "a\nb\n"}))


def test_pjm_tells_limit_and_start_without_a_year() -> None:
    """The output is the example of Fugaku's user guide."""
    environ = {"PJM_JOBID": "238", "PJM_O_NODEINF": "/n"}
    pjstat = (
        "JOB_ID  JOB_NAME  MD  ST   USER   START_DATE      ELAPSE_LIM  NODE_REQUIRE  VNODE  CORE  V_MEM\n"
        "238     job.sh    NM  RUN  user1  11/17 09:01:41  0001:00:00  12:2x3x2      -      -     -\n"
    )
    there = host_env(environ, files={"/n": "a\n"}, outputs={"pjstat 238": pjstat})
    for now, year in ((datetime(2026, 11, 17, 9, 2), 2026), (datetime(2027, 1, 2), 2026)):
        found = detect(replace(there, now_s=now.timestamp()))
        assert found.ends_s == datetime(year, 11, 17, 10, 1, 41).timestamp()


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
    found = detect(host_env({"FLUX_JOB_ID": "f1"}, outputs={"flux resource R": json.dumps(resource_set)}))
    four = ("0", "1", "2", "3")
    assert found.nodes == (NodeSpec("n1", four, ("0",)), NodeSpec("n2", four, ("0",)), NodeSpec("x", ("5",)))
    assert (found.kind, found.job_id, found.ends_s) == ("flux", "f1", 2000.0)


@pytest.mark.parametrize("answer", [None, "no", "{}", '{"execution": {"nodelist": ["a"], "R_lite": []}}'])
def test_flux_without_a_resource_set_is_an_error(answer: str | None) -> None:
    with pytest.raises(SettingsError, match=r"^flux resource R: "):
        detect(host_env({"FLUX_URI": "x"}, outputs={} if answer is None else {"flux": answer}))


# --- which of them ------------------------------------------------------------------------------------------------------


def test_what_is_said_wins_over_what_is_found() -> None:
    environ = recorded("slurm-two-nodes.env")
    assert detect(host_env(environ), "a:3").nodes == (NodeSpec("a", ("0", "1", "2")),)
    assert detect(host_env(environ), resources="local").kind == "local"
    with pytest.raises(SettingsError, match='--resources: "slrum" is not known; use one of auto, slurm'):
        detect(host_env(environ), resources="slrum")


def test_a_system_that_is_asked_for_must_be_there() -> None:
    with pytest.raises(SettingsError, match="SLURM_JOB_ID: is not set"):
        detect(host_env({}), resources="slurm")


def test_a_part_of_the_nodes_can_be_used() -> None:
    environ = recorded("slurm-uneven.env")
    assert cores_of(detect(host_env(environ), part=(1, None))) == {"node2": 4, "node3": 1}
    with pytest.raises(SettingsError, match="none of the 3 nodes is left"):
        detect(host_env(environ), part=(5, None))


def test_what_is_known_of_this_host_is_told_with_its_origin() -> None:
    environ = {"JOB_ID": "4", "SGE_ROOT": "/sge", "NSLOTS": "3", "CUDA_VISIBLE_DEVICES": "1"}
    found = detect(host_env(environ, cpus=(4, 5, 6)))
    assert found.sources == (
        Source("nodes, cores", "node1: 3", "NSLOTS"),
        Source("core ids of node1", "4-6", "affinity of this process"),
        Source("GPUs of node1", "1", "CUDA_VISIBLE_DEVICES"),
    )


def test_a_resources_document_wins_and_offers_what_is_free() -> None:
    document = {
        "type": "SLURM",
        "nodes": [
            {"name": "a", "total_cores": 4, "core_ids": ["0", "1", "2", "3"], "free_cores": ["2", "3"], "crs": None},
            {
                "name": "b",
                "total_cores": 1,
                "core_ids": ["7"],
                "free_cores": ["7"],
                "crs": {"GPU": {"class": "CRBind", "data": {"type": "GPU", "ids": ["0", "1"], "free": ["1"]}}},
            },
            {
                "name": "c",
                "total_cores": 1,
                "core_ids": ["0"],
                "free_cores": ["0"],
                "crs": {"GPU": {"class": "CR", "data": {"type": "GPU", "total": 2, "used": 0}}},
            },
        ],
        "binding": True,
    }
    there = host_env({"SLURM_JOB_ID": "3"}, files={"/r": json.dumps(document)})
    found = detect(there, "5", file="/r")
    assert (found.kind, found.job_id) == ("slurm", "3")
    assert found.nodes == (
        NodeSpec("a", ("2", "3"), bind=True),
        NodeSpec("b", ("7",), ("1",), bind=True),
        NodeSpec("c", ("0",), ("0", "1"), bind=True),
    )
    assert cores_of(detect(there, part=(1, 2), file="/r")) == {"b": 1}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, "cannot be read"),
        ("{", "is not a resources document: "),
        ('{"type": "SLURM", "nodes": [{"name": "a"}]}', "is not a resources document: "),
        ('{"type": "PBS", "nodes": []}', 'type "PBS" is neither SLURM nor LOCAL'),
        ('{"type": "LOCAL", "nodes": []}', "has no node with a free core"),
        ('{"type": "LOCAL", "nodes": [{"name": "a", "free_cores": ["0"], "crs": {"MEM": {}}}]}', "unknown field `MEM`"),
    ],
)
def test_a_file_that_is_no_resources_document_is_an_error(text: str | None, error: str) -> None:
    with pytest.raises(SettingsError) as caught:
        detect(host_env({}, files={} if text is None else {"/r": text}), file="/r")
    assert str(caught.value).startswith('--slurm-resources-file "/r": ')
    assert error in str(caught.value)


def test_the_real_machine_is_found_without_a_batch_system() -> None:
    (node,) = detect(this_host({})).nodes
    assert node.core_ids
    assert node.mem_bytes > 0
