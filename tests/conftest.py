"""What all tests share: waiting without sleeping blindly, short folders for sockets, and no process left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis
import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import patience
from process_state import command_line, kill

# Its limits are in milliseconds of a machine that may have other things to do. What `.ci/run` says of a commit it says each
# time; `make test` looks for new examples.
hypothesis.settings.register_profile(
    "ours", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], derandomize=patience.THOROUGH
)
hypothesis.settings.load_profile("ours")

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
    return patience.wait_until


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """A test leaves no process behind, whatever it killed."""
    mark = f"PILOTFISH_TEST={os.getpid()}-{time.monotonic_ns()}"
    name, _, value = mark.partition("=")
    os.environ[name] = value
    yield
    del os.environ[name]
    deadline = time.monotonic() + patience.PATIENCE_S
    left = _left_of(mark)
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = _left_of(mark)
    texts = {process: " ".join(command_line(process)) for process in left}
    killed = [text for process, text in texts.items() if kill(process)]  # others have ended at the last moment
    assert not killed, f"left behind: {killed}"


def _left_of(mark: str) -> list[psutil.Process]:
    """But for helpers of multiprocessing, which live to the end of the program."""
    marked = _marked(mark)
    return [each for each in marked if not any("from multiprocessing." in word for word in command_line(each))]


def _marked(mark: str) -> list[psutil.Process]:
    """Living processes with `mark` in their environment. Asked after each test, so it reads as little as will do."""
    found = []
    for pid in psutil.pids():
        with suppress(OSError, psutil.NoSuchProcess):
            if pid != os.getpid() and mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(psutil.Process(pid))
    return found


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
