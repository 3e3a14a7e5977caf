"""What batch systems are asked for when a spec asks for an allocation: one program on each node, with all its cores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pilotfish.launcher.allocations.batch_jobs import foreseen
from pilotfish.launcher.allocations.reading import spec_of, specs_in
from pilotfish.launcher.description.schema import DescriptionError


@pytest.fixture(autouse=True)
def here(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(wd)


def machine(batch_type: str, **more: Any) -> str:
    found = {"batch_type": batch_type, "context_type": "LazyLocal", "local_root": "."}
    Path("m.json").write_text(json.dumps({"machine": found, **more} if more else found))
    return "m.json"


def directives(count: int = 2, /, **given: Any) -> list[str]:
    """Those of the script for an allocation of so many nodes, without its name."""
    spec = spec_of({"machine": "m.json", **given}, "alloc")
    text = foreseen(Path("aux"), spec, count, 3600.0)
    return [line for line in text.splitlines() if line.startswith(("#SBATCH", "#$ ", "#PBS")) and "-name" not in line]


def test_slurm_gives_whole_nodes_unless_the_cores_are_said() -> None:
    machine("Slurm", resources={"queue_name": "short", "account": "ann"})
    assert directives(nodes="1-8") == [
        "#SBATCH --nodes 2",
        "#SBATCH --ntasks-per-node 1",
        "#SBATCH --cpus-per-task 1",
        "#SBATCH --partition short",
        "#SBATCH --time 01:00:00",
        "#SBATCH --account ann",
        "#SBATCH --exclusive",
    ]
    said = directives(nodes="1-8", cores=16, gpus=2, memory="64G", resources={"account": "bob"})
    assert {"#SBATCH --cpus-per-task 16", "#SBATCH --gres=gpu:2", "#SBATCH --mem 65536M"} <= {*said}
    assert ("#SBATCH --account bob" in said, "#SBATCH --exclusive" in said) == (True, False)


def test_grid_engine_counts_slots() -> None:
    machine("SGE", resources={"kwargs": {"pe_name": "fill"}})
    assert "#$ -pe fill 8" in directives(nodes="1-8", cores=4)
    machine("SGE")
    assert "#$ -pe smp 4" in directives(1, cores=4)
    with pytest.raises(DescriptionError, match="--cores"):
        directives()
    with pytest.raises(DescriptionError, match="parallel environments instead of nodes"):
        directives(nodes="1-8", cores=4)


def test_without_a_batch_system_nodes_are_virtual_and_end_with_their_time() -> None:
    machine("Shell")
    spec = spec_of({"machine": "m.json", "nodes": "1-2", "cores": 3, "memory": "1G", "tags": ["a"]}, "alloc")
    text = foreseen(Path("aux"), spec, 2, 600.0)
    assert "--allocation 0000000000000000000000000000000000000000 --ends-in 600s --tags a --nodes" in text
    assert "3:1024M,3:1024M" in text


def test_allocations_of_a_file_have_names_of_their_own_and_tell_the_place_of_a_mistake() -> None:
    machine("Slurm")
    entries: list[dict[str, Any]] = [{"machine": "m.json"}, {"machine": "m.json", "idle": "1m", "min_work": 0}]
    Path("a.json").write_text(json.dumps({"allocations": entries}))
    first, second = specs_in("a.json")
    assert (first.name, second.name, second.idle_s, second.min_work_s) == ("m", "m-2", 60.0, 0.0)
    entries[1]["budget"] = "2 cents"
    Path("a.json").write_text(json.dumps(entries))
    with pytest.raises(DescriptionError, match=r"a.json: allocations\[1\].budget: '2 cents' is not an amount"):
        specs_in("a.json")
    Path("a.json").write_text(json.dumps({"jobs": []}))
    with pytest.raises(DescriptionError, match="has no key 'allocations'"):
        specs_in("a.json")
