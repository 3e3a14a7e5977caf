"""What is told to launchers and libraries that a task starts itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.pilot.agent import launcher_hints
from pilotfish.pilot.agent.launch import environment
from pilotfish.pilot.agent.launcher_hints import NO_HINTS, Hints, LauncherHints
from pilotfish.pilot.agent.topologies import Topologies, load_library
from pilotfish.pilot.execmodels.own_launchers import UNBOUND
from pilotfish.pilot.model.ids import GrantId, PoolId
from pilotfish.pilot.model.job_spec import Execution
from pilotfish.pilot.wire.frames import NewGrant, NodeShare

HERE = frozenset(range(4))
NOTHING_BOUND = {name.encode(): value.encode() for name, value in UNBOUND.items()}
NO_PINNING = {b"I_MPI_PIN": b"0"}


def grant_of(*nodes: str) -> NewGrant:
    """One node for each word, with the cores of that word."""
    shares = [NodeShare(f"n{number}", cores.split(), []) for number, cores in enumerate(nodes)]
    return NewGrant(GrantId(1), PoolId(1), shares, True, 0)


@pytest.fixture
def no_hwloc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher_hints, "Topologies", lambda: Topologies(lambda: None))


@pytest.mark.usefixtures("no_hwloc")
def test_without_hwloc_ranks_stay_where_the_affinity_leaves_them() -> None:
    hints = LauncherHints({}, HERE, 4).of(grant_of("1 2"), frozenset({1, 2}))
    assert hints == Hints(NOTHING_BOUND | {b"PRTE_MCA_hwloc_default_cpu_list": b"1,2"}, True)


def test_cores_that_are_only_counted_are_bound_to_by_nobody() -> None:
    assert LauncherHints({}, HERE, 4).of(grant_of("0 1"), frozenset()) == Hints(NOTHING_BOUND | NO_PINNING, False)


def test_over_nodes_no_list_is_true_for_all_of_them() -> None:
    hints = LauncherHints({}, HERE, 4).of(grant_of("1", "2"), frozenset({1}))
    assert hints == Hints(NOTHING_BOUND | NO_PINNING, True)


def test_who_has_the_whole_machine_may_do_as_he_likes() -> None:
    assert LauncherHints({}, HERE, 4).of(grant_of("0 1 2 3"), frozenset()) == NO_HINTS


@pytest.mark.usefixtures("no_hwloc")
def test_all_cores_of_a_pilot_that_has_a_part_of_the_machine_are_a_part() -> None:
    hints = LauncherHints({}, frozenset({1}), 4).of(grant_of("1"), frozenset())
    assert hints.env[b"PRTE_MCA_hwloc_default_cpu_list"] == b"1"


@pytest.mark.parametrize(("more", "is_kept"), [({}, True), ({b"PILOTFISH_TASK": b"outer"}, False)])
def test_the_user_s_word_stays_but_not_that_of_a_pilot_outside(more: dict[bytes, bytes], is_kept: bool) -> None:
    started_with = {b"OMPI_MCA_hwloc_base_binding_policy": b"core", **more}
    told = LauncherHints(started_with, HERE, 4).of(grant_of("0 1"), frozenset()).env
    assert (b"OMPI_MCA_hwloc_base_binding_policy" not in told) == is_kept


def test_the_job_s_word_stays() -> None:
    hints = LauncherHints({}, HERE, 4).of(grant_of("0"), frozenset())
    execution = Execution(exec="x", env={"I_MPI_PIN": "1"})
    assert environment(execution, {}, {}, 1, hints)[b"I_MPI_PIN"] == b"1"


@pytest.mark.parametrize(("has_places", "places"), [(True, {b"OMP_PROC_BIND", b"OMP_PLACES"}), (False, set())])
def test_threads_are_bound_only_where_the_task_is(has_places: bool, places: set[bytes]) -> None:
    """Elsewhere the threads of all tasks would be on the first cores of the machine."""
    env = environment(Execution(exec="x", model="threads"), {}, {}, 2, Hints({}, has_places))
    assert env[b"OMP_NUM_THREADS"] == b"2"
    assert env.keys() & {b"OMP_PROC_BIND", b"OMP_PLACES"} == places


def test_a_machine_of_these_cores_is_written_once_and_gone_at_the_end() -> None:
    if load_library() is None:
        pytest.skip("no hwloc here")
    topologies = Topologies()
    path = topologies.path_of(frozenset({0}))
    assert Path(path).read_text().count('type="PU"') == 1
    assert topologies.path_of(frozenset({0})) == path
    topologies.close()
    assert not Path(path).parent.exists()


def test_a_full_disk_costs_the_file_only() -> None:
    def full(cpus: object, path: Path) -> None:
        raise OSError(28, "No space left on device")

    topologies = Topologies(lambda: full)
    assert topologies.path_of(frozenset({0})) == ""
    topologies.close()
