"""What all tests share: waiting without sleeping blindly, short folders for sockets, and no process left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

MPI_ENVIRON = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "UCX_TLS": "tcp,self"}


@pytest.fixture
def wd() -> Iterator[Path]:
    """A working folder with a path short enough for ipc sockets."""
    folder = Path(tempfile.mkdtemp(prefix="pf-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """`wait_until(condition, what)` returns when `condition()` is true and fails with `what` when it stays false."""

    def wait(condition: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not in {timeout_s} s: {what}"
            time.sleep(0.005)

    return wait


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """A test leaves no process behind, whatever it killed."""
    mark = f"PILOTFISH_TEST={os.getpid()}-{time.monotonic_ns()}"
    name, _, value = mark.partition("=")
    os.environ[name] = value
    yield
    del os.environ[name]
    deadline = time.monotonic() + 20
    left = _marked(name, value)
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = _marked(name, value)
    texts = [" ".join(process.info["cmdline"] or ["?"]) for process in left]
    for process in left:
        process.kill()
    assert not texts, f"left behind: {texts}"


def _marked(name: str, value: str) -> list[psutil.Process]:
    me = os.getpid()
    return [
        process
        for process in psutil.process_iter(["environ", "cmdline", "status"])
        if process.pid != me
        and (process.info["environ"] or {}).get(name) == value
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the person who runs the tests has configured must not change them."""
    monkeypatch.setenv("PILOTFISH_CONFIG", "")


@pytest.fixture(scope="session")
def mpi_program(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`mpi_program("openmpi")` or `mpi_program("mpich")`: tests/mpi_hello.c, compiled once. Skips (in CI: fails) without."""
    folder = tmp_path_factory.mktemp("mpi")
    os.chmod(folder, 0o755)

    def compiled(kind: str) -> Path:
        launcher = {"openmpi": "mpirun.openmpi", "mpich": "mpiexec.hydra"}[kind]
        absent = [name for name in (launcher, f"mpicc.{kind}") if shutil.which(name) is None]
        if absent:
            give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
            give_up(f"not installed: {', '.join(absent)}")
        program = folder / kind
        if not program.exists():
            source = Path(__file__).with_name("mpi_hello.c")
            subprocess.run([f"mpicc.{kind}", "-o", str(program), str(source)], check=True)
        return program

    return compiled


@pytest.fixture
def mpi_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open MPI refuses to run as root unless told twice; MPICH's UCX takes hosts made of namespaces for one, unless told."""
    for name, value in MPI_ENVIRON.items():
        monkeypatch.setenv(name, value)
