"""Where the modules of the old packages are here: what `pilotfish with` serves under their names.

Keys are names as programs import them, values are modules below `launcher/compat`, or, with two dots in front, below
`launcher`. A module may stand for several. Each has all names that the manuals give its old one.
"""

from __future__ import annotations

_CLUSTERJOB = {
    "clusterjob": ".clusterjob",
    "clusterjob.status": ".clusterjob.status",
    "clusterjob.utils": ".clusterjob.utils",
    "clusterjob.cli": ".clusterjob.cli",
    "clusterjob.backends": ".clusterjob.backends",
    **{
        f"clusterjob.backends.{name}": ".clusterjob.backends"
        for name in ("slurm", "pbs", "pbspro", "lpbs", "lsf", "sge")
    },
}

MODULES: dict[str, str] = {**_CLUSTERJOB}
COMMANDS: dict[str, str] = {"clusterjob-test-backend": ".clusterjob.cli:test_backend"}
"""Console scripts -> module and function."""
