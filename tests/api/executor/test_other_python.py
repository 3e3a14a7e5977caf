"""Function workers of another Python than that of the program."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from patience import PATIENCE_S

from pilotfish import Executor
from pilotfish.api.executor import core
from pilotfish.api.executor.future import RemoteError


def test_a_function_that_is_code_of_another_python_is_refused(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would crash there, or do something else. One of an installed module is only a name, which any Python can call."""
    own = SimpleNamespace(version_info=(3, 99), path=sys.path, executable=sys.executable)
    monkeypatch.setattr(core, "sys", own)
    with Executor(1, folder=wd) as executor:
        assert executor.submit(math.sqrt, 49).result(PATIENCE_S) == 7.0
        error = executor.submit(lambda: 1).exception(PATIENCE_S)
    assert isinstance(error, RemoteError)
    assert error.kind == "OtherPythonError"
    assert f"the function is code of Python 3.99, and {sys.executable} is Python" in error.text
    assert "python=" in error.text
