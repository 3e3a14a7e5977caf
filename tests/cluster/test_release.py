"""`make dist`: what a release consists of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from real import require

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
RELEASE = ROOT / "recipes/release.py"


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages that building takes, those of the extra `release`."""
    require("git", "man")
    folder = tmp_path_factory.mktemp("release")
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["release"]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, *wanted], check=True)
    return folder


def test_a_commit_gives_the_same_files_again_and_the_wheel_works_in_an_empty_environment(tools: Path, wd: Path) -> None:
    environ = os.environ | {"PYTHONPATH": str(tools)}
    subprocess.run([sys.executable, RELEASE, wd / "one"], check=True, cwd=wd, env=environ)
    subprocess.run([sys.executable, RELEASE, wd / "two", "--files"], check=True, cwd=wd, env=environ)
    sums = [set((wd / name / "SHA256SUMS").read_text().splitlines()) for name in ("one", "two")]
    assert len(sums[1]) == 2
    assert sums[1] < sums[0]
    bill = json.loads((wd / "one/sbom.json").read_text())
    assert bill["metadata"]["component"]["name"] == "pilotfish"
    assert {"pyzmq", "click", "psutil"} <= {part["name"] for part in bill["components"]}
    with tarfile.open(next((wd / "one").glob("*.tar.gz"))) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    assert {name for name in tracked if name} <= names
    page = subprocess.run(
        ["man", "-l", wd / "one/man/man1/pilotfish-job-run.1"], capture_output=True, text=True, check=True
    ).stdout
    assert "pilotfish job run 'gzip -9 {}' data/*.txt\n" in page
