"""A function over several MPI ranks, which mpi4py connects. Part of a function worker, so it imports nothing of ours.

The function worker starts this file with `mpirun`, once for each rank. All of them call the function with the same arguments;
what it returns at rank 0 is the result.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any


def call(ranks: int, code: bytes, args: Any, kwargs: Any, values: Any, site: str) -> Any:
    """The result of rank 0. Raises what a rank has raised, and RuntimeError when they ended for another reason."""
    launcher = shutil.which("mpirun") or shutil.which("mpiexec")
    if launcher is None:
        raise RuntimeError(
            "there is neither mpirun nor mpiexec on the PATH of this call; load a module with the option `modules`"
        )
    with tempfile.TemporaryDirectory(prefix="pilotfish-") as folder:
        with open(os.path.join(folder, "call"), "wb") as file:
            file.write(values.flat(values.pack((list(sys.path), code, args, kwargs))))
        words = [launcher, "-n", str(ranks), sys.executable, os.path.abspath(__file__), folder, site]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, check=False)
        for name in sorted(os.listdir(folder)):
            if name.startswith("error"):
                raise _read(values, os.path.join(folder, name))
        if done.returncode or not os.path.exists(os.path.join(folder, "result")):
            raise RuntimeError(f"{os.path.basename(launcher)} ended with exit code {done.returncode}")
        return _read(values, os.path.join(folder, "result"))


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
