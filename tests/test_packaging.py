"""The wheel holds all code, and the command starts without loading what it does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

from pilotfish.pilot.version import VERSION

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


def _listed_packages() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text()
    block = text.split("packages = [", 1)[1].split("]", 1)[0]
    return {line.strip().strip('",') for line in block.splitlines() if line.strip()}


def test_every_folder_with_code_is_in_the_wheel() -> None:
    folders = {path.parent for top in ("pilot", "api", "launcher") for path in (ROOT / top).rglob("*.py")} | {ROOT}
    packages = {".".join(["pilotfish", *folder.relative_to(ROOT).parts]) for folder in folders}
    assert packages == _listed_packages()


def test_recipes_and_citation_say_what_pyproject_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    here = {requirement.partition(";")[0] for requirement in project["dependencies"]}
    recipe = (ROOT / "recipes/conda/meta.yaml").read_text().partition("  run:\n")[2].partition("\ntest:")[0]
    there = {line.strip(" -").replace("msgpack-python", "msgpack").replace(" ", "") for line in recipe.splitlines()}
    assert there - {""} == here | {f"python{project['requires-python']}"}
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == VERSION
    assert citation["license"] == project["license"]


def test_help_loads_neither_zeromq_nor_rich() -> None:
    code = (
        "import sys; sys.argv = ['pilotfish', '--help']\n"
        "from pilotfish.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('zmq', 'rich', 'yaml', 'msgspec', 'paramiko', 'psutil') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_public_names_are_there() -> None:
    from pilotfish import JobInfo, Jobs, LocalManager, Manager

    assert [name.__name__ for name in (JobInfo, Jobs, LocalManager, Manager)] == [
        "JobInfo",
        "Jobs",
        "LocalManager",
        "Manager",
    ]
