"""Imports go one way: launcher -> api -> pilot, and inside pilot processes -> wire -> model. The table below is the rule."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import PATIENCE_S

ROOT = Path(__file__).parents[1]

SITE_FACTS = {"pilot.wire", "pilot.model", "pilot.variable_names", "pilot.own_python"}
WORDS = {"pilot.model.errors", "pilot.model.walltime", "pilot.model.units", "pilot.formats"}
BELOW_MACHINES = WORDS | {"launcher.description", "launcher.contexts", "launcher.job"}
BELOW_COMMANDS = BELOW_MACHINES | {
    "launcher.machines",
    "launcher.submission",
    "api",
    "pilot.files",
    "pilot.locks",
    "pilot.own_python",
    "pilot.wire.connection",
    "pilot.wire.journal",
}

ALLOWED: dict[str, set[str]] = {
    "pilot.model": set(),
    "pilot.wire": {"pilot.model", "pilot.files", "pilot.variable_names"},
    "pilot.variable_names": set(),
    "pilot.own_python": set(),
    "pilot.early_warnings": set(),
    "pilot.console": {"pilot.model.errors"},
    "pilot.exit_codes": set(),
    "pilot.loop": set(),
    "pilot.locks": {"pilot.model.errors"},
    "pilot.files": set(),
    "pilot.formats": set(),
    "pilot.logs": set(),
    "pilot.inherited": set(),
    "pilot.rate": set(),
    "pilot.notify": {"pilot.model.errors"},
    "pilot.clock": {"pilot.loop"},
    "pilot.cgroups": set(),
    "pilot.leftover_processes": {"pilot.cgroups", "pilot.variable_names"},
    "pilot.cpus": set(),
    "pilot.functions": set(),
    "pilot.systems": SITE_FACTS | {"pilot.cgroups", "pilot.cpus", "pilot.agent_launchers"},
    "pilot.agent_launchers": SITE_FACTS | {"pilot.files"},
    "pilot.execmodels": SITE_FACTS | {"pilot.systems"},
    "pilot.agent": SITE_FACTS
    | {
        "pilot.loop",
        "pilot.logs",
        "pilot.inherited",
        "pilot.clock",
        "pilot.leftover_processes",
        "pilot.cgroups",
        "pilot.cpus",
        "pilot.functions",
        "pilot.execmodels",
        "pilot.systems",
    },
    "pilot.manager": SITE_FACTS
    | {
        "pilot.loop",
        "pilot.logs",
        "pilot.inherited",
        "pilot.locks",
        "pilot.files",
        "pilot.formats",
        "pilot.clock",
        "pilot.rate",
        "pilot.notify",
        "pilot.leftover_processes",
        "pilot.systems",
        "pilot.agent_launchers",
        "pilot.console",
        "pilot.early_warnings",
        "pilot.exit_codes",
        "pilot.version",
    },
    "pilot.version": set(),
    "pilot.reach": {"pilot.model.errors", "pilot.wire"},
    "pilot.joining": SITE_FACTS
    | {"pilot.agent", "pilot.systems", "pilot.agent_launchers", "pilot.console", "pilot.reach"},
    "pilot.options": {"pilot.manager"},
    "pilot.cli": {"pilot.options", "pilot.manager", "pilot.agent", "pilot.joining", "pilot.model", "pilot.console"},
    "pilot.show_resources": {"pilot.systems", "pilot.console"},
    "api": {
        "pilot.functions",
        "pilot.wire",
        "pilot.model",
        "pilot.systems",
        "pilot.console",
        "pilot.files",
        "pilot.formats",
        "pilot.options",
        "pilot.rate",
        "pilot.notify",
        "pilot.exit_codes",
        "pilot.own_python",
        "pilot.early_warnings",
        "pilot.variable_names",
        "pilot.version",
    },
    "launcher": set(),
    "launcher.description": WORDS | {"pilot.wire.describe_resources", "pilot.model.resources"},
    "launcher.contexts": WORDS | {"launcher.description", "pilot.files"},
    "launcher.job": WORDS | {"launcher.description", "launcher.contexts", "pilot.locks", "pilot.files"},
    "launcher.machines": BELOW_MACHINES,
    "launcher.submission": BELOW_COMMANDS,
    "launcher.allocations": BELOW_COMMANDS | {"pilot.wire.demand", "pilot.model.resources"},
    "launcher.executor": BELOW_COMMANDS,
    "launcher.cli": BELOW_COMMANDS
    | {
        "pilot.console",
        "pilot.exit_codes",
        "pilot.variable_names",
        "pilot.wire.job_schema",
        "launcher.allocations",
        "launcher.compat.dropin",
        "launcher.adapters",
    },
    "launcher.compat": BELOW_COMMANDS | {"pilot.version"},
    "launcher.compat.dropin": BELOW_COMMANDS | {"launcher.compat", "pilot.variable_names", "pilot.own_python"},
    "launcher.compat.qcg": BELOW_COMMANDS | {"pilot.own_python", "pilot.variable_names"},
    "launcher.adapters": BELOW_COMMANDS | {"pilot.systems", "pilot.wire"},
}
"""Package (or module) -> what of ours it may import, besides itself."""

THIRD_PARTY: dict[str, set[str]] = {
    "pilot.model": set(),
    "pilot.wire": {"msgspec", "zmq"},
    "pilot.console": {"click"},
    "pilot.loop": {"zmq"},
    "pilot.locks": set(),
    "pilot.files": set(),
    "pilot.formats": {"yaml", "tomli"},
    "pilot.logs": set(),
    "pilot.rate": set(),
    "pilot.notify": set(),
    "pilot.clock": set(),
    "pilot.cgroups": set(),
    "pilot.leftover_processes": set(),
    "pilot.cpus": set(),
    "pilot.functions": {"msgpack", "cloudpickle", "mpi4py", "numpy", "worker"},
    "pilot.systems": {"psutil", "msgspec"},
    "pilot.agent_launchers": set(),
    "pilot.execmodels": set(),
    "pilot.agent": {"zmq", "msgspec", "psutil"},
    "pilot.manager": {"zmq", "msgspec", "psutil"},
    "pilot.joining": {"msgspec"},
    "pilot.reach": set(),
    "pilot.options": {"click"},
    "pilot.cli": {"click"},
    "pilot.show_resources": {"click"},
    "api": {
        "click",
        "dask",
        "joblib",
        "matplotlib",
        "msgpack",
        "msgspec",
        "pandas",
        "pyarrow",
        "rich",
        "tqdm",
        "typing_extensions",  # only for types
        "zmq",
    },
    "launcher": set(),
    "launcher.description": {"keyring", "dargs"},
    "launcher.contexts": {"httpx", "paramiko"},
    "launcher.job": set(),
    "launcher.machines": set(),
    "launcher.allocations": {"msgspec"},
    "launcher.submission": set(),
    "launcher.cli": {"click", "rich", "yaml"},
    "launcher.compat": {"click", "cloudpickle", "pandas"},
    "launcher.compat.dropin": {"sitecustomize"},
    "launcher.compat.qcg": {"click"},
    "launcher.adapters": {"zmq"},
}

IMPURE = {"asyncio", "io", "logging", "os", "random", "secrets", "signal", "socket", "subprocess", "tempfile"}
IMPURE |= {"threading", "time", "uuid", "multiprocessing", "pathlib"}
"""Of the standard library the core may not import these: no I/O, no clock, no randomness."""


def _modules() -> Iterator[tuple[str, Path]]:
    for top in ("pilot", "api", "launcher"):
        for path in sorted((ROOT / top).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


def _package(module: str) -> str | None:
    return next(
        (package for package in sorted(ALLOWED, key=len, reverse=True) if f"{module}.".startswith(f"{package}.")), None
    )


def _imports(module: str, path: Path) -> Iterator[tuple[int, str, bool]]:
    """(line, dotted name, whether it is ours), also inside functions and under TYPE_CHECKING."""
    here = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1]
            target = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                yield node.lineno, f"{target}.{alias.name}", True
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or "", False


@pytest.mark.parametrize(("module", "path"), list(_modules()), ids=[name for name, _ in _modules()])
def test_a_module_imports_only_what_its_layer_may(module: str, path: Path) -> None:
    package = _package(module)
    if package is None:
        return
    for line, name, ours in _imports(module, path):
        if ours:
            allowed = ALLOWED[package] | {package}
            known = _package(name) is None or any(f"{name}.".startswith(f"{part}.") for part in allowed)
            assert known, f"{path}:{line}: {name} is not in {sorted(allowed)}"
            continue
        top = name.split(".")[0]
        assert top != "pilotfish", f"{path}:{line}: imports inside the package are relative"
        if top not in sys.stdlib_module_names:
            assert top in THIRD_PARTY[package], f"{path}:{line}: {top} is not in {sorted(THIRD_PARTY[package])}"
        elif package == "pilot.model":
            assert top not in IMPURE, f"{path}:{line}: the core does not use {top}"


CIRCLES_THAT_ARE_KNOWN: list[set[str]] = []
"""What is left of them. A circle more, or one less that still stands here, is an error."""


def _graph() -> dict[str, set[str]]:
    """Which module names which, for types as well. A package's own file is a module like any other."""
    paths = dict(_modules())
    graph: dict[str, set[str]] = {module: set() for module in paths}
    for module, path in paths.items():
        for _, name, ours in _imports(module, path):
            if ours:
                target = name if name in paths else name.rpartition(".")[0]
                graph[module] |= {target} & paths.keys() - {module}
    return graph


def _circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules of which each needs, by some way, all others."""
    reaches = {module: _reachable(graph, module) for module in graph}
    groups = {frozenset(other for other in reaches[module] if module in reaches[other]) for module in graph}
    return [set(group) for group in groups if group]


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    todo = [start]
    while todo:
        more = graph[todo.pop()] - reached
        reached |= more
        todo += more
    return reached


def test_no_circle_of_imports_not_even_for_types() -> None:
    circles = sorted(map(sorted, _circles(_graph())))
    assert circles == sorted(map(sorted, CIRCLES_THAT_ARE_KNOWN))


def test_a_noun_of_the_launcher_is_one_class() -> None:
    """`Submission`, `Task`, `Machine` and so on. The old interfaces in compat, and the adapters, which speak another system's
    language (a job is Slurm's there), have their own names, which nobody imports.
    """
    homes: dict[str, list[str]] = {}
    for module, path in _modules():
        if module.startswith("launcher.") and not module.startswith(("launcher.compat.", "launcher.adapters.")):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    homes.setdefault(node.name, []).append(module)
    twice = {name: modules for name, modules in homes.items() if len(modules) > 1}
    assert twice == {
        "Phase": ["launcher.job.single", "launcher.submission.batch_job"]
    }  # of a single job, of one of many


def test_importing_anything_opens_nothing() -> None:
    """No module writes a file, opens a socket or starts a process when it is imported."""
    names = [f"pilotfish.{name}" for name, _ in _modules()]
    code = f"""
import importlib, sys, psutil, zmq, click, msgspec
def watch(event, args):
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        raise RuntimeError(f"opens {{args[0]}}")
    if event in ("socket.bind", "socket.connect", "subprocess.Popen", "os.posix_spawn", "os.mkdir", "os.chdir"):
        raise RuntimeError(event)
sys.dont_write_bytecode = True
sys.addaudithook(watch)
for name in {names!r}:
    importlib.import_module(name)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE_S)


def test_no_module_is_imported_twice_under_two_names() -> None:
    import pilotfish.api.manager  # noqa: F401

    twice = [name for name in sys.modules if name.endswith(".api.manager") and not name.startswith("pilotfish.")]
    assert twice == []


NAMES_SLURM = {
    "launcher/machines/slurm.py",
    "launcher/machines/slurm_array.py",
    "launcher/machines/slurm_facts.py",
    "launcher/cli/as_system.py",
    "launcher/machines/registry.py",
    "pilot/systems/slurm.py",
    "pilot/systems/registry.py",
    "pilot/systems/document.py",  # what follows: names of options, models and files that users know
    "pilot/manager/config.py",
    "pilot/execmodels/srunmpi.py",
    "api/script_job.py",
    "api/service_options.py",
    "launcher/compat/clusterjob/backends.py",
    "api/report/traces.py",
    "launcher/compat/dropin/tables.py",
    "launcher/compat/qcg/service.py",
}


def test_what_is_known_of_a_batch_system_stands_in_its_own_files() -> None:
    """Everybody else asks a registry. Slurm stands for all: it is the one that slips in."""
    found = {path.relative_to(ROOT).as_posix() for _, path in _modules() if "slurm" in path.read_text().lower()}
    assert {path for path in found if not path.startswith("launcher/adapters/slurm/")} <= NAMES_SLURM
