"""Words of a command line, #SBATCH lines and SBATCH_* variables, read by the tables of options.

As getopt_long does: `--name value`, `--name=value`, unambiguous beginnings of long names, `-n 4`, `-n4`, and several short ones
together. The first word that is no option ends them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ...machines import slurm_facts
from .errors import Refusal, failed_submit
from .options import SLURMS, Option, Treatment, Value

Values = dict[str, str]
"""By the long name; an option without a value has ""."""


class Words(NamedTuple):
    values: Values
    rest: list[str]


def read(command: str, words: Sequence[str], table: Iterable[Option]) -> Words:
    """The options before the first word that is none. Raises Refusal as Slurm's commands do."""
    reader = _Reader(command, words, table)
    return Words(reader.values, reader.rest())


class _Reader:
    """Goes through the words from left to right."""

    def __init__(self, command: str, words: Sequence[str], table: Iterable[Option]) -> None:
        self._command = command
        self._words = list(words)
        options = list(table)
        self._longs = {option.name: option for option in options}
        self._shorts = {option.short: option for option in options if option.short}
        self.values: Values = {}

    def rest(self) -> list[str]:
        """Take the options; returns what is behind them."""
        while self._words:
            word = self._words[0]
            if word == "--":
                return self._words[1:]
            if not word.startswith("-") or word == "-":
                break
            del self._words[0]
            if word.startswith("--"):
                self._take_long(word[2:])
            else:
                self._take_short(word[1:])
        return self._words

    def _take_long(self, word: str) -> None:
        name, mark, value = word.partition("=")
        option = _long(self._command, name, self._longs)
        if option.value is Value.NONE and mark:
            raise self._wrong(f"option '--{option.name}' doesn't allow an argument")
        if option.value is Value.REQUIRED and not mark:
            value = self._next(f"option '--{option.name}' requires an argument")
        _take(self._command, self.values, option, value)

    def _take_short(self, letters: str) -> None:
        while letters:
            option = self._shorts.get(letters[0])
            if option is None:
                raise self._wrong(f"invalid option -- '{letters[0]}'")
            letters, value = letters[1:], ""
            if option.value is not Value.NONE:
                letters, value = "", letters
            if option.value is Value.REQUIRED and not value:
                value = self._next(f"option requires an argument -- '{option.short}'")
            _take(self._command, self.values, option, value)

    def _next(self, otherwise: str) -> str:
        if not self._words:
            raise self._wrong(otherwise)
        return self._words.pop(0)

    def _wrong(self, text: str) -> Refusal:
        return Refusal(f"{self._command}: {text}", hint=self._command)


def _long(command: str, name: str, longs: Mapping[str, Option]) -> Option:
    if name in longs:
        return longs[name]
    matches = [option for long, option in longs.items() if name and long.startswith(name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise Refusal(f"{command}: option '--{name}' is ambiguous", hint=command)
    raise Refusal(f"{command}: unrecognized option '--{name}'", hint=command)


_LISTS = ("accounts", "format", "jobs", "name", "partition", "state", "user")
"""Of sacct: what is said twice adds up."""
_SAME = {"tasks-per-node": "ntasks-per-node", "share": "oversubscribe"}


def _take(command: str, values: Values, option: Option, value: str) -> None:
    if option.treatment is Treatment.REFUSED and not _asks_nothing(option.name, value):
        raise (
            failed_submit(option.why, command)
            if option.why in SLURMS
            else Refusal(f"{command}: error: --{option.name}: {option.why}")
        )
    name = _SAME.get(option.name, option.name)
    if command == "sacct" and option.name in _LISTS and name in values:
        value = f"{values[name]},{value}"
    values[name] = value


def _asks_nothing(name: str, value: str) -> bool:
    """Values that demand nothing although the option is refused."""
    return (name == "mail-type" and value.upper() == "NONE") or (name == "tmp" and value == "0")


_LINE = re.compile(r"#SBATCH\s+(.*)")


def directives(script: str) -> list[str]:
    """The words of the `#SBATCH` lines, which end at the first line that is no comment."""
    words: list[str] = []
    for number, line in enumerate(script.split("\n"), 1):
        if match := _LINE.match(line):
            try:
                words += shlex.split(match[1], comments=True)
            except ValueError:
                raise Refusal(f"sbatch: error: line {number}: unbalanced quotes in #SBATCH line") from None
        elif line.strip() and not line.startswith("#"):
            break
    return words


def variables(environ: Mapping[str, str], table: Iterable[Option]) -> Values:
    """What sbatch's input variables say."""
    values: Values = {}
    for option in table:
        if option.variable and option.variable in environ:
            text = environ[option.variable]
            values[option.name] = "" if option.value is Value.NONE else text
    return values


def check_script(script: str) -> None:
    """Raises Refusal as sbatch does."""
    if not script.startswith("#!"):
        raise Refusal("\n".join(f"sbatch: error: {line}" for line in slurm_facts.NO_SCRIPT))
    if "\r\n" in script:
        raise Refusal(
            "sbatch: error: Batch script contains DOS line breaks (\\r\\n)\n"
            "sbatch: error: instead of expected UNIX line breaks (\\n)."
        )


def of_sbatch(words: Sequence[str], script: str, environ: Mapping[str, str], table: Sequence[Option]) -> Words:
    """All that says what the job is to be: the command line before variables before the script's lines."""
    given = read("sbatch", words, table)
    lines = read("sbatch", directives(script), table).values if script else {}
    return Words({**lines, **variables(environ, table), **given.values}, given.rest)
