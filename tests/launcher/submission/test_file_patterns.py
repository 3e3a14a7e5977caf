"""Which commands `pilotfish job run` makes of a command and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.launcher.submission.file_patterns import fill
from pilotfish.pilot.model.errors import UsageError


@pytest.fixture(autouse=True)
def some_files(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(wd)
    for name in ("in/s1.info.txt", "in/s2.info.txt", "in/d.s1.bat", "in/d.s2.bat", "in/one two.txt", "in/odd.bat"):
        (wd / name).parent.mkdir(exist_ok=True)
        (wd / name).touch()


@pytest.mark.parametrize(
    ("command", "files", "more", "commands"),
    [
        ("true", [], [], ["true"]),
        ("awk '{print $1}' x", [], [], ["awk '{print $1}' x"]),
        ("wc {}", ["in/b.txt", "in/one two.txt"], [], ["wc in/b.txt", "wc 'in/one two.txt'"]),
        ("wc {}", ["in/s*.txt"], [], ["wc in/s1.info.txt", "wc in/s2.info.txt"]),
        ("f {} {.} {/} {//} {/.} {#} {{}}", ["in/a.b.c"], [], ["f in/a.b.c in/a.b a.b.c in a.b 1 {}"]),
        ("awk '{print $1}' {} ${HOME}", ["a"], [], ["awk '{print $1}' a ${HOME}"]),
        ("f {0} -o {1}", ["in/s*.txt", "in/d.s*.bat"], [], [f"f in/s{n}.info.txt -o in/d.s{n}.bat" for n in "12"]),
        ("f {0} {1}", ["in/s*.txt", "ref.vcf"], [], [f"f in/s{n}.info.txt ref.vcf" for n in "12"]),
        ("f {s} {1}", ["in/{s}.info.txt", "in/d.{s}.bat"], [], [f"f s{n} in/d.s{n}.bat" for n in "12"]),
        ("f {n} {k}", ["in/{s}.info.txt"], ["n:s:s(.):x\\1", "k:9"], [f"f x{n} 9" for n in "12"]),
        ("f {b}", ["in/odd.bat"], ["b:0:.*/:"], ["f odd.bat"]),
    ],
)
def test_a_command_is_filled_in(command: str, files: list[str], more: list[str], commands: list[str]) -> None:
    assert [each.command for each in fill(command, files, more)] == commands


@pytest.mark.parametrize(
    ("command", "files", "more", "text"),
    [
        ("gzip", ["a"], [], r"command 'gzip': has no place for the files; write \{\} where a file belongs"),
        ("gzip {}", [], [], r"command: has a place for files, and none are given; .* --simple"),
        ("f {s} {smaple}", ["in/{sample}.info.txt"], [], r"command: \{s\} is not known"),
        ("f {smaple}", ["in/{sample}.info.txt"], [], r"command: \{smaple\} is not known; did you mean 'sample'\?"),
        ("f {0}", ["in/*.none"], [], r"in/\*\.none: no file is called so"),
        ("f {0} {1}", ["in/s*.txt", "in/*.bat"], [], r"in/s\*\.txt: finds 2 files, and another pattern 3"),
        ("f {s}", ["in/{s}.info.txt", "in/d.s{s}.bat"], [], r"\{s\} is '1' in in/d\.s1\.bat, and 's1' in in/s1"),
        ("f {n}", ["in/{s}.info.txt"], ["n:t:a:b"], r"--extra-vars n:t:a:b: there is no 't'; known are file, 0, s"),
        ("f {n}", ["in/{s}.info.txt"], ["n:s:(:b"], r"--extra-vars n:s:\(:b: is no regular expression"),
        ("f {n}", ["in/{s}.info.txt"], ["n"], r"--extra-vars n: must be NEW:OLD:REGEX:TEXT or NEW:TEXT"),
    ],
)
def test_what_does_not_fit_together_is_said(command: str, files: list[str], more: list[str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        fill(command, files, more)
