"""What is executed for a description: the program itself, or bash for scripts and for prepared environments.

No login shell, and every argument quoted: a shell sees a description only where the job asks for one. Execution model
`default` is just that, once; what the program needs to spread itself over the task's nodes is laid ready for it.

The kernel takes no word longer than 128 KiB, and a shell's text is one word. A longer one is written to a file, which the
same shell reads with `.`: `$0`, stdin and everything else stay what they are for shorter ones.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from ..model.job_spec import Execution
from ..model.resources import host_of
from ..wire.word_limits import fits_word
from .base import Place, Wrapped

_MODULE_FUNCTION = """\
if ! command -v module >/dev/null 2>&1; then
  for _init in "${MODULESHOME:-/nonexistent}/init/bash" /etc/profile.d/modules.sh /etc/profile.d/lmod.sh; do
    if [ -r "$_init" ]; then . "$_init"; break; fi
  done
fi
"""


class LongTexts:
    """Shell texts that are too long for a word, by the files in which they are to be. `stem` gives the begin of their paths."""

    def __init__(self, stem: Callable[[], str]) -> None:
        self.files: dict[str, str] = {}
        self._stem = stem

    def path_of(self, text: str) -> str:
        path = next((path for path, known in self.files.items() if known == text), None)
        if path is None:
            path = f"{self._stem()}.{len(self.files)}.sh"
            self.files[path] = text
        return path


def shell(text: str, long_texts: LongTexts | None) -> list[str]:
    """The argv of a shell that runs `text`."""
    if long_texts is None or fits_word(text):
        return ["bash", "-c", text]
    return ["bash", "-c", f". {shlex.quote(long_texts.path_of(text))}"]


def command(execution: Execution, long_texts: LongTexts | None = None) -> list[str]:
    """The argv of a task that no launcher starts; the first element is looked up as a program by the agent."""
    if execution.script is not None:
        return shell(_prelude(execution) + execution.script, long_texts)
    return behind_prelude(execution, program_words(execution, long_texts), long_texts)


def program_words(execution: Execution, long_texts: LongTexts | None = None) -> list[str]:
    """What a launcher starts as each rank."""
    if execution.script is not None:
        return shell(execution.script, long_texts)
    assert execution.exec is not None
    return [execution.exec, *execution.args]


def behind_prelude(execution: Execution, words: Sequence[str], long_texts: LongTexts | None = None) -> list[str]:
    """The argv that loads modules, enters the virtual environment and becomes `words`; a launcher may be in one of them."""
    prelude = _prelude(execution)
    return shell(f"{prelude}exec {shlex.join(words)}", long_texts) if prelude else list(words)


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
