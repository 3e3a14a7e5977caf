"""The folder for large values of calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.pilot.manager import value_folder
from pilotfish.pilot.manager.value_folder import ValueFolder


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for /dev/shm."""
    monkeypatch.setattr(value_folder, "_MEMORY", tmp_path / "shm")
    monkeypatch.setattr(value_folder, "_LEAST_FREE_BYTES", 0)
    (tmp_path / "shm").mkdir()
    return tmp_path / "shm"


def test_it_is_in_memory_on_one_machine_and_goes_with_the_pilot(tmp_path: Path, memory: Path) -> None:
    """On several nodes it is in the auxiliary folder, and stays."""
    aux = tmp_path / "aux"
    aux.mkdir()
    here, everywhere = ValueFolder(aux, here=True), ValueFolder(aux, here=False)
    assert Path(here.path).parent == memory
    assert Path(here.path).stat().st_mode & 0o777 == 0o700
    assert Path(everywhere.path) == aux / "values"
    for folder in (here, everywhere):
        folder.remove()
    assert not list(memory.iterdir())
    assert (aux / "values").is_dir()


def test_the_next_life_finds_it_and_the_next_pilot_clears_up(tmp_path: Path, memory: Path) -> None:
    """As long as the run is there a killed manager's folder is kept."""
    aux, other = tmp_path / "aux", tmp_path / "other"
    aux.mkdir()
    other.mkdir()
    killed = ValueFolder(aux, here=True).path
    assert ValueFolder(other, here=True).path != killed
    assert ValueFolder(aux, here=True).path == killed
    aux.rmdir()
    assert ValueFolder(other, here=True).path
    assert not Path(killed).exists()
