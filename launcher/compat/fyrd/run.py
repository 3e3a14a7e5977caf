"""fyrd's small tools for commands, files, names of files and questions. Our own code uses none of them."""

from __future__ import annotations

import argparse
import bz2
import glob
import gzip
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import IO, Any

from ....pilot.model.errors import UsageError
from ...contexts.shell import words
from . import conf, logme
from .run_imports import (
    export_globals,
    export_imports,
    export_run,
    get_all_imports,
    get_function_path,
    get_imports,
    import_function,
    normalize_imports,
    syspath_fmt,
    update_syspaths,
)

__all__ = [
    "export_globals",
    "export_imports",
    "export_run",
    "get_all_imports",
    "get_function_path",
    "get_imports",
    "import_function",
    "normalize_imports",
    "syspath_fmt",
    "update_syspaths",
]

_HOLE = re.compile(r"\{(.*?)\}")
STRPRSR = _HOLE
_TRY_AGAIN_S = 1.0


class CommandError(UsageError, ValueError):
    """A command cannot be run as it was given."""

    code = "command"


class CustomFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help texts of argparse as they are written, with defaults."""


# --- commands ---------------------------------------------------------------------------------------------------------------


def cmd(
    command: str | Sequence[str],
    args: str | Sequence[str] | None = None,
    stdout: Any = None,
    stderr: Any = None,
    tries: int = 1,
) -> tuple[int, str, str]:
    """Run a command in a shell; (exit code, output, errors), without blanks at their ends.

    Args:
        command: shell text; a list or tuple is words.
        args: more words, as shell text or a list of words.
        stdout, stderr: a path or stream that also gets the output.
        tries: how often at most, while it ends with another code than 0.
    """
    if tries < 1:
        raise CommandError(f"{tries} is less than 1", where="tries")
    line = command if isinstance(command, str) else words(command)
    if args:
        if not isinstance(command, str):
            raise CommandError("a list already has its arguments", where="args", remedy="put them into the list")
        line = f"{line} {args if isinstance(args, str) else words(map(str, args))}"
    logme.log(f"Running {line}", "verbose")
    for left in range(tries - 1, -1, -1):
        done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
        if done.returncode == 0 or not left:
            break
        logme.log(f"{line} ended with code {done.returncode}, once more", "warn")
        time.sleep(_TRY_AGAIN_S)
    for target, text in ((stdout, done.stdout), (stderr, done.stderr)):
        if isinstance(target, str | os.PathLike):
            with open_zipped(target, "w") as file:
                file.write(text)
        elif target is not None:
            target.write(text)
    return done.returncode, done.stdout.rstrip(), done.stderr.rstrip()


def which(program: str) -> str | None:
    """The path of a program; None where there is none."""
    found = shutil.which(program)
    return None if found is None else os.path.abspath(found)


def is_exe(fpath: str) -> bool:
    return os.path.isfile(fpath) and os.access(fpath, os.X_OK)


def check_pid(pid: int) -> bool:
    """Whether there is a process with this number."""
    return Path(f"/proc/{pid}").exists()


# --- files ------------------------------------------------------------------------------------------------------------------


def open_zipped(infile: Any, mode: str = "r") -> Any:
    """Open a file for text, packed or not by the end of its name (.gz, .bz2); a stream is given back as it is."""
    if hasattr(infile, "write"):
        return infile
    path, how = os.fspath(infile), f"{mode[0]}t"
    if path.endswith(".gz"):
        return gzip.open(path, how)
    return bz2.open(path, how) if path.endswith(".bz2") else open(path, how)


def file_type(infile: str) -> str:
    """The end of a name, without .gz or .bz2."""
    return re.sub(r"\.(gz|bz2)$", "", os.fspath(infile)).rpartition(".")[2]


def is_file_type(infile: Any, types: str | Iterable[str]) -> bool:
    """Whether a name, or that of a stream, has one of these ends."""
    return file_type(getattr(infile, "name", infile)) in listify(types)


def exp_file(infile: str) -> str:
    """With `~` and variables filled in."""
    return os.path.expandvars(os.path.expanduser(infile))


def cmd_or_file(string: str) -> str:
    """What is in the file of this name; without such a file the text itself."""
    if os.path.isfile(string):
        with open_zipped(string) as file:
            return str(file.read()).strip()
    return string.strip()


def write_iterable(iterable: Iterable[str], outfile: Any) -> None:
    """Write lines, with breaks between them."""
    with open_zipped(outfile, "w") as file:
        file.write("\n".join(iterable))


def block_read(files: IO[str], size: int = 65536) -> Iterator[str]:
    """A file in blocks."""
    while block := files.read(size):
        yield block


def count_lines(infile: str, force_blocks: bool = False) -> int:
    """How many line breaks a file has."""
    with open_zipped(infile) as file:
        return sum(block.count("\n") for block in block_read(file))


def split_file(
    infile: str, parts: int, outpath: str | os.PathLike[str] = "", keep_header: bool = False
) -> tuple[str, ...]:
    """Cut a file into parts of nearly as many lines each: their paths. With `keep_header` each begins with the first line.

    Parts lie in `outpath` (default: the current folder); there are fewer of them than `parts` only where lines are fewer.
    """
    lines = count_lines(infile) - (1 if keep_header else 0)
    count = max(1, min(int(parts), lines))
    ends = [round(lines * number / count) for number in range(count + 1)]
    found = []
    with open_zipped(infile) as whole:
        header = whole.readline() if keep_header else ""
        for number in range(count):
            name = f"{os.path.basename(infile)}.split_{number + 1:04d}.{infile.rpartition('.')[2]}"
            path = os.path.join(os.fspath(outpath), name)
            left = None if number == count - 1 else ends[number + 1] - ends[number]  # a last line may lack its end
            with open_zipped(path, "w") as part:
                part.write(header)
                part.writelines(islice(whole, left))
            found.append(path)
    return tuple(found)


# --- names of files with variables in them ------------------------------------------------------------------------------------


def string_getter(string: str) -> tuple[set[int], set[str]]:
    """(numbers, names) in braces. Raises ValueError where there are both `{}` and `{0}`."""
    holes = _HOLE.findall(string)
    numbers = {int(hole) for hole in holes if hole.isdigit()}
    if numbers and "" in holes:
        raise ValueError("braces cannot be both numbered and not")
    return numbers, {hole for hole in holes if not hole.isdigit()}


def parse_glob(string: str, get_vars: str | Iterable[str] | None = None) -> dict[str, dict[str, str] | None]:
    """Files of a pattern like `{sample}/*.txt` -> what its variables are in each; None where none is asked for.

    Raises ValueError for numbered or empty braces, and where a variable has two values in one name.
    """
    wanted = listify(get_vars)
    files = sorted(glob.glob(_HOLE.sub("*", string)))
    if not wanted:
        return dict.fromkeys(files)
    numbers, names = string_getter(string)
    if numbers or "" in names:
        raise ValueError(f"{string!r}: expected names in braces, as {{sample}}")
    seen: set[str] = set()

    def hole(name: str) -> str:
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return f"(?P<{name}>[^/]*)"

    parts = re.split(r"(\{.*?\}|\*|\?)", string)
    signs = {"*": "[^/]*", "?": "[^/]"}
    regex = "".join(hole(part[1:-1]) if part[:1] == "{" else signs.get(part, re.escape(part)) for part in parts)
    found: dict[str, dict[str, str] | None] = {}
    for file in files:
        match = re.fullmatch(regex, file)
        if match is None:
            raise ValueError(f"{file} has several values for a variable of {string!r}")
        found[file] = {name: match[name] for name in wanted if name in names}
    return found


def file_getter(
    file_strings: Sequence[str],
    variables: Sequence[str],
    extra_vars: str | Sequence[str] | None = None,
    max_count: int | None = None,
) -> list[tuple[tuple[str, ...], dict[str, str]]]:
    """Files of several patterns side by side, in the order of their names, with the variables that they share.

    Args:
        extra_vars: more variables: `new:old:regex:replacement`, or `new:value`.
        max_count: how many patterns are looked at.

    Raises ValueError where patterns do not find as many files each, or a variable has two values.
    """
    found = [parse_glob(pattern, variables) for pattern in list(file_strings)[:max_count]]
    if len({len(each) for each in found}) > 1:
        raise ValueError(
            f"the patterns find {', '.join(str(len(each)) for each in found)} files: expected as many each"
        )
    rows = []
    for together in zip(*(each.items() for each in found), strict=True):
        values: dict[str, str] = {}
        for file, known in together:
            for name, value in (known or {}).items():
                if values.setdefault(name, value) != value:
                    raise ValueError(f"{file}: {name} is {value}, and {values[name]} in the file beside it")
        for extra in listify(extra_vars):
            values |= _extra(extra, values)
        rows.append((tuple(os.path.abspath(file) for file, _ in together), values))
    return rows


def _extra(text: str, values: Mapping[str, str]) -> dict[str, str]:
    name, *how = text.split(":")
    if len(how) == 1:
        return {name: how[0]}
    if len(how) != 3:
        raise ValueError(f"{text!r}: expected new:old:regex:replacement, or new:value")
    if how[0] not in values:
        raise ValueError(f"{text!r}: there is no variable {how[0]!r}")
    return {name: re.sub(how[1], how[2], values[how[0]])}


# --- values -----------------------------------------------------------------------------------------------------------------


def listify(iterable: Any) -> list[Any]:
    """A list of what may be one value; None is nothing."""
    if isinstance(iterable, list):
        return iterable
    if isinstance(iterable, str | int | float):
        return [iterable]
    if iterable is None:
        return []
    try:
        return list(iterable)
    except TypeError:
        return [iterable]


def merge_lists(lists: Iterable[Iterable[Any]]) -> list[Any]:
    return [each for some in lists for each in some]


def indent(string: str, prefix: str = "    ") -> str:
    """Each line with this in front of it, and a break behind it."""
    return "".join(f"{prefix}{line}\n" for line in string.split("\n"))


def is_exc(x: Any) -> bool:
    """Whether this is what `sys.exc_info()` gives."""
    return isinstance(x, tuple) and len(x) == 3 and isinstance(x[0], type) and issubclass(x[0], BaseException)


def opt_split(opt: str | Iterable[str], split_on: str | Iterable[str]) -> list[str]:
    """Texts cut at any of these signs, each part once, in their order."""
    signs = "".join(re.escape(sign) for sign in listify(split_on))
    return list(dict.fromkeys(part for each in listify(opt) for part in re.split(f"[{signs}]", each)))


def replace_argument(args: Any, find_string: str, replace_string: str, error: bool = True) -> Any:
    """A tuple, a mapping, or a list of both, with `{name}` in its texts filled in; values of a mapping are replaced whole.

    Raises ValueError where nothing is found, or with `error=False` gives None (or two).
    """
    if not isinstance(args, list | tuple | dict):
        raise ValueError(f"expected a list, tuple or mapping, not {type(args).__name__}")
    both = isinstance(args, list)
    words, named = args if both else (args, None) if isinstance(args, tuple) else (None, args)
    hit = [each for each in [*(words or ()), *(named or {}).values()] if isinstance(each, str) and find_string in each]
    if not hit:
        if error:
            raise ValueError(f"{find_string} is in none of the arguments")
        logme.log(f"Could not find {find_string}", "warn")
        return (None, None) if both else None
    new_words = tuple(
        each.replace(find_string, replace_string) if isinstance(each, str) else each for each in words or ()
    )
    new_named = {name: replace_string if each in hit else each for name, each in (named or {}).items()}
    if both:
        return [new_words, new_named]
    return new_words if named is None else new_named


# --- people -----------------------------------------------------------------------------------------------------------------


def get_yesno(message: str, default: str | None = None) -> bool:
    """Ask on the terminal; `default` is y or n, for an empty answer."""
    if default is not None and default[:1].lower() not in ("y", "n"):
        raise ValueError(f"{default!r} is neither y nor n")
    shown = {"y": "[Y/n]", "n": "[y/N]"}.get((default or " ")[0].lower(), "[y/n]")
    return get_input(f"{message.rstrip()} {shown}", "yesno", default).lower().startswith("y")


def get_input(message: str, valid_answers: str | Iterable[str] | None = None, default: str | None = None) -> str:
    """Ask until the answer is one of these, in small or capital letters; `yesno` stands for y, n, yes and no."""
    valid = ["yes", "no", "y", "n"] if valid_answers == "yesno" else [each.lower() for each in listify(valid_answers)]
    while True:
        answer = input(f"{message.rstrip()} ") or default or ""
        if not valid or answer.lower() in valid:
            return answer
        print(f"expected one of {', '.join(valid)}")


def get_pbar(iterable: Iterable[Any], name: str | None = None, unit: str | None = None, **kwargs: Any) -> Iterable[Any]:
    """With a progress bar, where tqdm is installed and the setting `queue.progressbar` allows it."""
    name = kwargs.pop("desc", None) or name
    try:
        make: Callable[..., Iterable[Any]] = import_module("tqdm").tqdm
    except ImportError:
        return iterable
    kwargs.setdefault("disable", not conf.get_option("queue", "progressbar"))
    return make(iterable, desc=name, **({} if unit is None else {"unit": unit}), **kwargs)
