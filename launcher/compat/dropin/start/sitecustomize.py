"""Every Python below `pilotfish with` runs this as it starts, and nothing else of Pilotfish until an old name is imported.

Any Python may be started there, so this is written in what all of them read. One that is too old for Pilotfish gets an error
where it imports an old name: it must not get the original, which would not be what was asked for. The `sitecustomize` that
would have been run without us is run after it.
"""

import os
import sys

REQUIREMENTS = frozenset(
    [
        "_cffi_backend",
        "bcrypt",
        "cffi",
        "click",
        "cloudpickle",
        "cryptography",
        "invoke",
        "markdown_it",
        "mdurl",
        "msgpack",
        "msgspec",
        "nacl",
        "paramiko",
        "psutil",
        "pycparser",
        "pygments",
        "rich",
        "tomli",
        "typing_extensions",
        "yaml",
        "zmq",
    ]
)
"""What Pilotfish imports, and what that imports: only these are lent to a Python in which they are not installed."""

DISTRIBUTIONS = {"yaml": "pyyaml", "zmq": "pyzmq", "nacl": "pynacl", "markdown_it": "markdown-it-py"}
"""Where they have other names on the index."""

_HERE = os.path.dirname(os.path.abspath(__file__))


class OldNames:
    """Asked before all other finders. The first old name brings the real finder, which takes this one's place."""

    def __init__(self, systems):  # type: (list[str]) -> None
        self._systems = systems

    def find_spec(self, name, path=None, target=None):  # type: (str, object, object) -> object
        top = name.split(".")[0]
        if name == "pilotfish":
            return _pilotfish()
        if top not in self._systems:
            return None
        if sys.version_info < (3, 10):  # noqa: UP036  # that it may be older is why this is here
            text = "Pilotfish, which was to serve %s, needs Python 3.10 or newer, and %s is Python %d.%d"
            raise ImportError(text % (name, sys.executable, sys.version_info[0], sys.version_info[1]))
        import importlib

        finder = importlib.import_module("pilotfish.launcher.compat.dropin.finder").install(self._systems)
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        return finder.find_spec(name)


class Lent:
    """Asked after all other finders, for what Pilotfish imports: from where the Python of `pilotfish with` has it."""

    def __init__(self, path):  # type: (list[str]) -> None
        self._path = path

    def find_spec(self, name, path=None, target=None):  # type: (str, object, object) -> object
        if name not in REQUIREMENTS:
            return None
        from importlib.machinery import PathFinder

        return PathFinder.find_spec(name, self._path)

    def find_distributions(self, context=None):  # type: (object) -> object
        from importlib.metadata import DistributionFinder, MetadataPathFinder

        name = getattr(context, "name", None) or ""
        if name.lower() not in {"pilotfish"} | {DISTRIBUTIONS.get(each, each) for each in REQUIREMENTS}:
            return ()
        return MetadataPathFinder.find_distributions(DistributionFinder.Context(name=name, path=self._path))


def _pilotfish():  # type: () -> object
    """By its place: this Python may have none, or another one."""
    from importlib.util import spec_from_file_location

    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(_HERE))))
    return spec_from_file_location("pilotfish", os.path.join(root, "__init__.py"), submodule_search_locations=[root])


def _serve():  # type: () -> None
    sys.meta_path.insert(0, OldNames(os.environ["PILOTFISH_DROPIN"].split(",")))  # type: ignore[arg-type]
    if os.environ.get("PILOTFISH_DROPIN_TAG") == sys.implementation.cache_tag:
        path = os.environ.get("PILOTFISH_DROPIN_PATH", "").split(os.pathsep)
        sys.meta_path.append(Lent(path))  # type: ignore[arg-type]


def _run_next():  # type: () -> None
    """The one that would have been found without us."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _HERE]
    ours = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
    except ImportError as error:
        if getattr(error, "name", "sitecustomize") != "sitecustomize":
            raise
    finally:
        sys.modules.setdefault("sitecustomize", ours)


if __name__ == "sitecustomize":
    if os.environ.get("PILOTFISH_DROPIN") and sys.version_info >= (3, 4):
        _serve()
    _run_next()
