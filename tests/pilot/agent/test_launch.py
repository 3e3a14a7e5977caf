"""Starts that fail at first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilotfish.pilot.agent.launch import LaunchError, environment, mend, prepare, why_not
from pilotfish.pilot.model.job_spec import Execution


def test_a_start_is_tried_again_when_another_worker_has_made_the_folder_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    execution = Execution(exec="true", stdout="out/1")
    launch = prepare(execution, environment(execution, dict(os.environb), {}, 1), str(tmp_path))
    with pytest.raises(FileNotFoundError):
        launch.spawn()
    (tmp_path / "out").mkdir()
    assert mend(launch)
    assert os.waitpid(launch.spawn(), 0)[1] == 0


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").write_text("")
    execution = Execution(exec="true", stdout="out/1")
    launch = prepare(execution, environment(execution, dict(os.environb), {}, 1), str(tmp_path))
    with pytest.raises(LaunchError, match="cannot make folder 'out' for 'out/1': File exists"):
        mend(launch)


def test_a_script_with_the_line_ends_of_windows_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_bytes(b"#!/bin/bash\r\necho\r\n")
    script.chmod(0o755)
    execution = Execution(exec=str(script))
    launch = prepare(execution, environment(execution, dict(os.environb), {}, 1), str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        launch.spawn()
    assert "its first line ends in CR, as on Windows" in why_not(launch, caught.value)
