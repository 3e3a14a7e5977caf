"""A function over several MPI ranks, which mpi4py connects. Part of a function worker, so it imports nothing of ours.

The function worker starts this file once for each rank, by the launcher of the MPI that is there. All ranks call the function
with the same arguments; what it returns at rank 0 is the result.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any

_PROGRAM, _STEM = "@program@", "@stem@"
"""As in worker.py."""
_SIGNS = (("Open MPI", "openmpi"), ("OpenRTE", "openmpi"), ("Intel(R) MPI", "intelmpi"), ("HYDRA", "mpich"))
"""What the launchers say of themselves."""


def call(ranks: int, given: Any, values: Any, site: str, starts: Any, shared: str, mark: str) -> Any:
    """The result of rank 0.

    `given`: function, arguments. `starts`: how ranks are started on several cores, as the agent says (agent/rank_starts.py);
    `shared`: a folder that all nodes see; `mark`: the attempt.

    Raises what a rank has raised, and RuntimeError when they ended for another reason.
    """
    if starts is not None and not starts["is_local"] and not shared:
        raise RuntimeError("ranks on several nodes need a folder that all of them see; the pilot has none")
    code, args, kwargs = given
    with tempfile.TemporaryDirectory(prefix="ranks-", dir=shared or None) as folder:
        with open(os.path.join(folder, "call"), "wb") as file:
            file.write(values.flat(values.pack((list(sys.path), code, args, kwargs))))
        program = [sys.executable, os.path.abspath(__file__), folder, site]
        words, environ = _start_of(ranks, program, starts, os.path.join(folder, "start"), mark)
        done = subprocess.run(words, env=environ, stdin=subprocess.DEVNULL, check=False)
        for name in sorted(os.listdir(folder)):
            if name.startswith("error") and not name.endswith(".new"):
                raise _read(values, os.path.join(folder, name))
        if done.returncode or not os.path.exists(os.path.join(folder, "result")):
            raise RuntimeError(f"{os.path.basename(words[0])} ended with exit code {done.returncode}")
        return _read(values, os.path.join(folder, "result"))


def _start_of(ranks: int, program: list[str], starts: Any, stem: str, mark: str) -> tuple[list[str], dict[str, str]]:
    """Command line and environment; writes the files that the launcher reads."""
    if starts is None:
        return [_launcher(), "-n", str(ranks), *program], {**os.environ}
    model = _model_of(starts)
    argv, env, files = starts["models"][model]
    for path, text in files.items():
        with open(path.replace(_STEM, stem), "w", errors="surrogateescape") as file:
            file.write(text)
    words: list[str] = []
    for word in argv:
        words += program if word == _PROGRAM else [word.replace(_STEM, stem)]
    if len(starts["models"]) > 1:
        words[0] = _launcher()
    variables = {name: value.replace(_STEM, stem) for name, value in env.items()}
    return words, {**variables, **os.environ, **{name: value + mark for name, value in starts["marks"].items()}}


def _launcher() -> str:
    launcher = shutil.which("mpirun") or shutil.which("mpiexec")
    if launcher is None:
        raise RuntimeError(
            "there is neither mpirun nor mpiexec on the PATH of this call; load a module with the option `modules`"
        )
    return launcher


def _model_of(starts: Any) -> str:
    """The execution model for the MPI that is there; found out once."""
    models = starts["models"]
    if len(models) == 1:
        return str(next(iter(models)))
    if "found" not in starts:
        launcher = _launcher()
        asked = subprocess.run(
            [launcher, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        starts["found"] = next((model for sign, model in _SIGNS if sign in asked.stdout), None)
        if starts["found"] is None:
            del starts["found"]
            raise RuntimeError(
                f"{launcher} is of an MPI that is not known; name its execution model with the option `model`"
            )
    return str(starts["found"])


def _read(values: Any, path: str) -> Any:
    with open(path, "rb") as file:
        return values.unpack(file.read())


def main() -> None:
    """Be one rank."""
    import worker  # beside this file, which is the first place where it is looked for

    del sys.modules["worker"], sys.path[0]
    folder, site = sys.argv[1:]
    values = worker.load("values")
    values.load_cloudpickle = lambda: worker.need("cloudpickle", site)
    worker.need("msgpack", site)
    sys.path[:], code, args, kwargs = _read(values, os.path.join(folder, "call"))
    from mpi4py import MPI

    rank = MPI.COMM_WORLD.Get_rank()
    try:
        result = values.unpack(code)(*args, **kwargs)
        name, content = "result", values.pack(result) if rank == 0 else []
    except BaseException as error:
        name, content = f"error-{rank}", values.pack(error)
    if content:
        with open(os.path.join(folder, f"{name}.new"), "wb") as file:
            file.writelines(content)
        os.rename(os.path.join(folder, f"{name}.new"), os.path.join(folder, name))
    if name != "result":
        sys.stdout.flush()
        MPI.COMM_WORLD.Abort(1)


if __name__ == "__main__":
    main()
