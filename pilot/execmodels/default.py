"""What is executed for a description: the program itself, or bash for scripts and for prepared environments (spec 11.2).

No login shell, and every argument quoted: a shell sees a description only where the job asks for one. Execution model
`default` is just that, once; what the program needs to spread itself over the task's nodes is laid ready for it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ..model.job_spec import Execution
from ..model.resources import host_of
from .base import Place, Wrapped

_MODULE_FUNCTION = """\
if ! command -v module >/dev/null 2>&1; then
  for _init in "${MODULESHOME:-/nonexistent}/init/bash" /etc/profile.d/modules.sh /etc/profile.d/lmod.sh; do
    if [ -r "$_init" ]; then . "$_init"; break; fi
  done
fi
"""


def command(execution: Execution) -> list[str]:
    """The argv of a task that no launcher starts; the first element is looked up as a program by the agent."""
    if execution.script is not None:
        return ["bash", "-c", _prelude(execution) + execution.script]
    return behind_prelude(execution, program_words(execution))


def program_words(execution: Execution) -> list[str]:
    """What a launcher starts as each rank."""
    if execution.script is not None:
        return ["bash", "-c", execution.script]
    assert execution.exec is not None
    return [execution.exec, *execution.args]


def behind_prelude(execution: Execution, words: Sequence[str]) -> list[str]:
    """The argv that loads modules, enters the virtual environment and becomes `words`; a launcher may be in one of them."""
    prelude = _prelude(execution)
    return ["bash", "-c", f"{prelude}exec {shlex.join(words)}"] if prelude else list(words)


def _prelude(execution: Execution) -> str:
    """Shell lines that load modules and enter the virtual environment; a step that fails ends the task with its status."""
    lines = ""
    if execution.modules:
        lines += _MODULE_FUNCTION + f"module load {shlex.join(execution.modules)} || exit $?\n"
    if execution.venv is not None:
        lines += f". {shlex.quote(execution.venv + '/bin/activate')} || exit $?\n"
    return lines


def wrap(words: Sequence[str], place: Place) -> Wrapped:
    """The program alone, with a host file."""
    path = f"{place.stem}.hostfile"
    env = {"PILOTFISH_HOSTFILE": path}
    system = place.system
    if system.hostfile_variable:
        env[system.hostfile_variable] = path
    env |= system.model_variables.get("default", {})
    return Wrapped(list(words), env, {path: hostfile(place)})


def hostfile(place: Place) -> str:
    """One line with the node's name for each core."""
    return "".join(f"{host_of(node.name)}\n" * len(node.core_ids) for node in place.nodes)
