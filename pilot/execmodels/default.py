"""What is executed for a description: the program itself, or bash for scripts and for prepared environments (spec 11.2).

No login shell, and every argument quoted: a shell sees a description only where the job asks for one.
"""

from __future__ import annotations

import shlex

from ..model.job import Execution

_MODULE_FUNCTION = """\
if ! command -v module >/dev/null 2>&1; then
  for _init in "${MODULESHOME:-/nonexistent}/init/bash" /etc/profile.d/modules.sh /etc/profile.d/lmod.sh; do
    if [ -r "$_init" ]; then . "$_init"; break; fi
  done
fi
"""


def command(execution: Execution) -> list[str]:
    """The argv of a task; the first element is looked up as a program by the agent."""
    prelude = _prelude(execution)
    if execution.script is not None:
        return ["bash", "-c", prelude + execution.script]
    assert execution.exec is not None
    if prelude:
        return ["bash", "-c", f"{prelude}exec {shlex.join([execution.exec, *execution.args])}"]
    return [execution.exec, *execution.args]


def _prelude(execution: Execution) -> str:
    """Shell lines that load modules and enter the virtual environment; a step that fails ends the task with its status."""
    lines = ""
    if execution.modules:
        lines += _MODULE_FUNCTION + f"module load {shlex.join(execution.modules)} || exit $?\n"
    if execution.venv is not None:
        lines += f". {shlex.quote(execution.venv + '/bin/activate')} || exit $?\n"
    return lines
