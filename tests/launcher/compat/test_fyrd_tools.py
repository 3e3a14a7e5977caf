"""fyrd's modules besides jobs and queues: conf, logme, run, notify, helpers, batch_systems, keyword tables."""

from __future__ import annotations

import gzip
import io
import logging
import os
import smtplib
import sys
import time
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from pilotfish import fyrd
from pilotfish.launcher.compat.fyrd import batch_systems, conf, logme, notify, options, run
from pilotfish.launcher.submission import queues

SHELL = {"batch_type": "Shell", "context_type": "LazyLocal", "local_root": "."}


@pytest.fixture(autouse=True)
def here(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(wd)
    monkeypatch.setenv("HOME", str(wd))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(wd / "config"))
    monkeypatch.setattr(batch_systems, "MODE", None)
    monkeypatch.setattr(logme, "MIN_LEVEL", "info")


# --- conf ---------------------------------------------------------------------------------------------------------------------


def test_settings_are_read_written_and_forgotten(wd: Path) -> None:
    assert fyrd.get_option("queue", "max_jobs") == 1000
    fyrd.set_option("queue", "max_jobs", 7)
    fyrd.set_option("jobs", "mine", [1, "a"])
    assert (fyrd.get_option("queue")["max_jobs"], fyrd.get_option("jobs", "mine")) == (7, [1, "a"])
    conf.delete("queue", "max_jobs")
    conf.delete("jobs")
    assert conf.get_config() == {section: dict(keys) for section, keys in conf.DEFAULTS.items()}
    with pytest.raises(ValueError, match="no option 'nothing' in jobs"):
        conf.get_option("jobs", "nothing")
    assert conf.get_option("jobs", "nothing", 3) == 3
    with pytest.raises(ValueError, match="no section 'nope'"):
        conf.set_option("nope", "a", 1)
    with pytest.warns(UserWarning, match="no effect here"):
        conf.set_option("local", "server_uri", "x")


def test_settings_of_fyrd_count_until_there_are_some_of_ours(wd: Path) -> None:
    (wd / ".fyrd").mkdir()
    (wd / ".fyrd/config.txt").write_text("[queue]\nmax_jobs = 3\nqueue_type = local\n[jobs]\nsuffix = mine\n")
    assert (fyrd.Job("true").qtype, fyrd.Job("true").suffix, fyrd.Queue().max_jobs) == ("local", "mine", 3)


def test_a_program_may_have_files_of_its_own(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fyrd's own tests do this: another file of settings, which names another file of profiles."""
    monkeypatch.setattr(conf, "CONFIG_FILE", str(wd / "settings"))
    conf.create_config({"jobs": {"profile_file": str(wd / "profiles")}}, def_queue="local")
    assert conf.get_option("queue", "queue_type") == "local"
    conf.create_profiles()
    conf.Profile("mine", {"cores": 2}).write()
    assert conf.set_profile("mine", {"mem": "1GB"}).args["cores"] == 2
    assert conf.set_profile("mine", {"mem": 3}, update=False).cores == 1
    assert "[mine]" in (wd / "profiles").read_text()
    assert (conf.get_profile("none", allow_none=True), sorted(conf.get_profiles("mine"))) == (None, ["mine"])
    conf.del_profile("mine")
    assert "mine" not in conf.load_profiles()
    assert not (wd / "config").exists()


def test_settings_have_their_effect_on_jobs(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf.set_option("jobs", "scriptpath", "scripts")
    conf.set_option("jobs", "clean_files", False)
    job = fyrd.Job("echo a", machine=SHELL)
    assert job.get() == "a\n"
    assert [path.parent.name for path in map(Path, job.files)] == ["scripts"]
    assert Path(job.submission.file_name).exists()
    conf.set_option("queue", "max_jobs", 0)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        conf.set_option("queue", "max_jobs", 9)

    monkeypatch.setattr("pilotfish.launcher.compat.fyrd.job.time", SimpleNamespace(sleep=sleep, time=time.time))
    fyrd.Job("true", machine=SHELL).submit(max_jobs=1)
    assert waits == []
    fyrd.Job("true", machine=SHELL).submit()
    assert waits == [1.0]
    assert conf.get_job_paths({"dir": "a", "outpath": "b", "cores": 2}) == (
        {"cores": 2, "runpath": str(wd / "a")},
        str(wd / "a"),
        str(wd / "b"),
        str(wd / "scripts"),
    )


def test_settings_are_asked_for_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return "5" if question.startswith("queue.max_jobs") else ""

    monkeypatch.setattr("builtins.input", answer)
    conf.create_config_interactive()
    assert (conf.get_option("queue", "max_jobs"), conf.get_option("queue", "sleep_len")) == (5, 1)
    assert not any("server_uri" in question for question in asked)


# --- logme --------------------------------------------------------------------------------------------------------------------


def test_lines_have_a_time_a_level_and_a_colour(capsys: pytest.CaptureFixture[str]) -> None:
    fyrd.logme.log("first\nsecond", "warn")
    err = capsys.readouterr().err.splitlines()
    assert err[0][8] == " "
    assert err[0][21:] == " | \033[1m\033[93mWARNING\033[0m --> first"
    assert err[1] == f"{'-' * 34}> second"


@pytest.mark.parametrize(
    ("level", "least", "written"),
    [("debug", "info", False), ("d", "v", True), (2, 3, False), ("info", "i", True), ("critical", "error", True)],
)
def test_what_is_below_the_least_level_is_not_written(
    level: str | int, least: str | int, written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fyrd.logme, "MIN_LEVEL", least)
    file = io.StringIO()
    fyrd.logme.log("text", level, file, also_write=-1)
    assert ("--> text" in file.getvalue()) is written
    assert "\033" not in file.getvalue()


def test_lines_go_to_files_loggers_and_the_standard_library(
    wd: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("log", "log.gz"):
        fyrd.logme.log("kept", logfile=name)
    assert (wd / "log").read_text().endswith("| INFO --> kept\n")
    assert gzip.open("log.gz", "rt").read().endswith("| INFO --> kept\n")
    fyrd.logme.clear("log")
    assert (wd / "log").read_text() == ""
    caplog.set_level(logging.DEBUG)
    fyrd.logme.log("quiet", "debug")
    fyrd.logme.log("mine", logfile=logging.getLogger("mine"))
    assert [(each.name, each.levelname) for each in caplog.records if each.message == "quiet"] == [("fyrd", "DEBUG")]
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="invalid level 'loud'"):
        fyrd.logme.log("x", "loud")
    with pytest.raises(fyrd.logme.LoggingException, match=r"^bad$"):
        raise fyrd.logme.LoggingException("bad\nmore")
    assert "CRITICAL" in capsys.readouterr().err
    fyrd.logme.log("both", also_write="stdout")
    assert "both" in capsys.readouterr().out


# --- run ----------------------------------------------------------------------------------------------------------------------


def test_commands(wd: Path) -> None:
    assert run.cmd("echo a; echo b >&2; exit 3", tries=1) == (3, "a", "b")
    assert run.cmd("echo", ["a b", "c"], stdout="out") == (0, "a b c", "")
    assert (wd / "out").read_text() == "a b c\n"
    with pytest.raises(ValueError, match="already has its arguments"):
        run.cmd(["echo"], "a")
    assert run.which("sh") == run.which(str(run.which("sh")))
    assert (run.which("no-such-program"), run.check_pid(os.getpid()), run.is_exe(sys.executable)) == (None, True, True)


def test_files(wd: Path) -> None:
    run.write_iterable(["head", "1", "2", "3", "4", "5"], "a.txt.gz")
    assert (run.file_type("a.txt.gz"), run.is_file_type("a.txt.gz", ["bed", "txt"]), run.count_lines("a.txt.gz")) == (
        "txt",
        True,
        5,
    )
    parts = run.split_file("a.txt.gz", 2, keep_header=True)
    assert parts == ("a.txt.gz.split_0001.gz", "a.txt.gz.split_0002.gz")
    assert [run.open_zipped(part).read().split() for part in parts] == [["head", "1", "2"], ["head", "3", "4", "5"]]
    assert (run.cmd_or_file("a.txt.gz").split()[0], run.cmd_or_file(" echo ")) == ("head", "echo")
    assert run.exp_file("~/x") == str(wd / "x")


def test_names_of_files_with_variables(wd: Path) -> None:
    for name in ("a", "b"):
        (wd / name).mkdir()
        for end in ("fa", "gff"):
            (wd / name / f"x.{end}").touch()
    assert run.string_getter("{a}/{0}/{b}") == ({0}, {"a", "b"})
    assert run.parse_glob("{d}/*.fa", ["d"]) == {"a/x.fa": {"d": "a"}, "b/x.fa": {"d": "b"}}
    found = run.file_getter(["{d}/*.fa", "{d}/*.gff"], ["d"], "e:d:a:z")
    assert found[0] == ((str(wd / "a/x.fa"), str(wd / "a/x.gff")), {"d": "a", "e": "z"})
    assert found[1][1] == {"d": "b", "e": "b"}
    (wd / "b/x.gff").unlink()
    with pytest.raises(ValueError, match="expected as many each"):
        run.file_getter(["{d}/*.fa", "{d}/*.gff"], ["d"])


def test_values(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [run.listify(each) for each in (None, 3, "ab", (1, 2), [4])] == [[], [3], ["ab"], [1, 2], [4]]
    assert run.merge_lists([[1], [2, 3]]) == [1, 2, 3]
    assert run.opt_split(["a,b", "c;a"], [",", ";"]) == ["a", "b", "c"]
    assert run.indent("a\nb") == "    a\n    b\n"
    assert run.replace_argument(("x", "{file}"), "{file}", "f") == ("x", "f")
    assert run.replace_argument([("{file}",), {"a": 1}], "{file}", "f") == [("f",), {"a": 1}]
    with pytest.raises(ValueError, match="none of the arguments"):
        run.replace_argument(("x",), "{file}", "f")
    answers = iter(["maybe", "Yes", ""])
    monkeypatch.setattr("builtins.input", lambda question: next(answers))
    assert (run.get_yesno("Really?"), run.get_yesno("Really?", "n")) == (True, False)
    assert list(run.get_pbar([1, 2], disable=True)) == [1, 2]


def test_imports_as_statements() -> None:
    assert run.normalize_imports(["sys", "from a import b", "sys"], prot=False) == ["import sys", "from a import b"]
    lines = run.get_imports(run.cmd)
    assert "import subprocess" in lines
    assert run.import_function(run.cmd, "list")[1] == f"import {run.cmd.__module__}"
    assert run.update_syspaths(run.cmd, {"syspaths": "x"}) == [os.path.dirname(str(run.__file__)), "x"]


def test_statements_are_done_before_a_function_is_called() -> None:
    assert fyrd.Job(_uses_an_import, machine=SHELL, imports=["from math import floor"]).get() == 2


def _uses_an_import() -> int:
    return int(floor(2.5))  # type: ignore[name-defined]  # noqa: F821


# --- notify -------------------------------------------------------------------------------------------------------------------


class Server:
    """What `smtplib.SMTP` would do, written down."""

    said: list[Any]

    def __init__(self, host: str, port: int, timeout: float) -> None:
        Server.said = [(host, port)]

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.said.append("end")

    def starttls(self, context: Any) -> None:
        self.said.append("encrypted")

    def login(self, user: str, password: str) -> None:
        self.said.append((user, password))

    def send_message(self, message: EmailMessage) -> None:
        self.said.append((message["To"], message["Subject"], message.get_content()))


def test_messages_go_by_mail_or_by_a_server(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert notify.notify("text") is False, "there is no address"
    (wd / "bin").mkdir()
    (wd / "bin/mail").write_text(f'#!/bin/sh\necho "$@" > {wd}/mailed; cat >> {wd}/mailed\n')
    (wd / "bin/mail").chmod(0o755)
    monkeypatch.setenv("PATH", f"{wd}/bin:{os.environ['PATH']}")
    assert notify.notify("text\n", "me@here", "news")
    assert (wd / "mailed").read_text() == "-s news me@here\ntext\n"
    (wd / "word").write_text("secret\n")
    conf.set_option("notify", "mode", "smtp")
    with pytest.raises(ValueError, match=r"notify.smtp_host is not set"):
        notify.notify("text", "me@here")
    for key, value in {"smtp_host": "host", "smtp_from": "us@here", "smtp_passfile": wd / "word"}.items():
        conf.set_option("notify", key, value)
    monkeypatch.setattr(smtplib, "SMTP", Server)
    assert notify.notify("text", "me@here", "news")
    expected = [("host", 587), "encrypted", ("us@here", "secret"), ("me@here", "news", "text\n"), "end"]
    assert Server.said == expected


def test_a_long_wait_ends_with_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    monkeypatch.setattr(notify, "notify", lambda text, subject: sent.append(text))
    conf.set_option("notify", "notify_address", "me@here")
    job = fyrd.submit("true", machine=SHELL)
    fyrd.wait(job)
    assert sent == []
    conf.set_option("notify", "wait_time", 0)
    fyrd.wait(job, notify=False)
    fyrd.wait([job])
    assert [text.partition(",")[0] for text in sent] == ["1 jobs are over"]


# --- work in parts ------------------------------------------------------------------------------------------------------------


def _sum(row: Any) -> Any:
    return row.a + row.b


def _mean(column: Any) -> Any:
    return column.mean()


def _double(value: int) -> int:
    return value * 2


def _words(path: str) -> list[str]:
    return Path(path).read_text().split()


FRAME = pd.DataFrame({"a": [1, 2, 3, 4], "b": [10, 20, 30, 40]})


def test_data_frames_are_worked_on_in_parts() -> None:
    whole = fyrd.parapply(2, FRAME, _sum, axis=1, machine=SHELL)
    assert list(whole) == [11, 22, 33, 44]
    assert fyrd.parapply(3, FRAME, _double, applymap=True, machine=SHELL).equals(FRAME * 2)
    assert fyrd.parapply_summary(2, FRAME, _mean, machine=SHELL).to_dict() == {"a": 2.5, "b": 25.0}
    assert [name for name in os.listdir() if "parapply" in name] == []
    with pytest.raises(ValueError, match="expected a data frame"):
        fyrd.parapply(2, [1, 2], _sum)


def test_text_files_are_worked_on_in_parts(wd: Path) -> None:
    (wd / "in.txt").write_text("head\n1\n2\n3\n")
    assert fyrd.splitrun(2, "in.txt", False, _words, ("{file}",), machine=SHELL) == ["head", "1", "2", "3"]
    done = fyrd.splitrun(2, "in.txt", True, "cp {file} {outfile}", outfile="out.txt", outheader=True, machine=SHELL)
    assert (done, (wd / "out.txt").read_text()) == (str(wd / "out.txt"), "head\n1\n2\n3\n")
    counted = fyrd.splitrun(
        2, "in.txt", False, "wc -l < {file}", merge_func=lambda each: sum(map(int, each)), machine=SHELL
    )
    assert counted == 4
    assert [path.name for path in wd.iterdir() if "split" in path.name] == []
    with pytest.raises(fyrd.ClusterError, match=r"no \{outfile\}"):
        fyrd.splitrun(2, "in.txt", False, "cat {file}", outfile="x", machine=SHELL)


def test_a_job_may_do_all_the_parts(wd: Path) -> None:
    (wd / "in.txt").write_text("1\n2\n3\n")
    job = fyrd.splitrun(2, "in.txt", False, "cat {file}", machine=SHELL, direct=False)
    assert job.submitted
    assert job.get() == ["1\n2\n", "3\n"] or job.get() == ["1\n", "2\n3\n"]


# --- batch systems ------------------------------------------------------------------------------------------------------------


def test_a_program_says_which_queue_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "get_cluster_environment", lambda: "torque")
    assert fyrd.get_cluster_environment() == fyrd.batch_systems.MODE == "torque"
    fyrd.batch_systems.MODE = "local"
    assert (fyrd.Job("true").qtype, fyrd.Queue().qtype) == ("local", "local")
    assert fyrd.get_cluster_environment(overwrite=True) == "torque"
    assert fyrd.check_queue("local") is True
    monkeypatch.setattr(queues, "is_here", lambda kind: False)
    with pytest.raises(fyrd.ClusterError, match="torque: its commands are not here"):
        fyrd.check_queue()
    with pytest.raises(fyrd.ClusterError, match="no kind of queue is called 'nope'"):
        fyrd.check_queue("nope")


def test_the_tools_of_a_kind_of_queue(wd: Path) -> None:
    local, slurm = fyrd.get_batch_system("local"), fyrd.get_batch_system("slurm")
    assert (slurm.PREFIX, slurm.SUFFIX, local.PREFIX) == ("#SBATCH", "slr", "")
    assert slurm.normalize_job_id("7_2") == ("7", "2")
    assert slurm.normalize_job_id("7.server") == ("7", None)
    assert (slurm.normalize_state("RUNNING"), local.queue_test()) == ("running", True)
    assert slurm.parse_strange_options({"nodes": 2, "mem": 5})[1] == {"mem": 5}
    (wd / "x.sh").write_text("echo hello > said\nsleep 1000\n")
    job_id = local.submit("x.sh")
    assert next(iter(row for row in local.queue_parser() if row[0] == job_id))[5] in ("pending", "running")
    assert local.kill(job_id)
    assert fyrd.wait(job_id) is False
    fyrd.default_queue().close()
    assert {"running", "completed", "failed"} <= set(batch_systems.ALL_STATES)


def test_a_script_is_handed_over_with_its_own_directives(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its directives stand at the top of what the batch system gets; the job runs a copy."""
    (wd / "bin").mkdir()
    (wd / "bin/sbatch").write_text("#!/bin/sh\nfor last; do :; done\ncp $last handed; echo 17\n")
    (wd / "bin/sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{wd}/bin:{os.environ['PATH']}")
    (wd / "x.sh").write_text("#!/bin/bash\n#SBATCH --mem=3\necho hi\n")
    assert fyrd.submit_file("x.sh", qtype="slurm", submit_args="--qos=low", dependencies=["5"]) == "17"
    handed = (wd / "handed").read_text().splitlines()
    assert handed[:4] == ["#!/bin/bash -l", "#SBATCH --dependency afterok:5", "#SBATCH --qos=low", "#SBATCH --mem=3"]
    with pytest.raises(FileNotFoundError):
        fyrd.submit_file("none.sh", qtype="slurm")


def test_only_our_files_are_cleaned_from_a_folder(wd: Path) -> None:
    job = fyrd.Job("echo a", machine=SHELL, name="mine", clean_files=False)
    job.get()
    (wd / "other.cluster.script").touch()
    assert fyrd.clean_dir() == [os.path.basename(job.files[0])]
    assert sorted(fyrd.clean_dir(delete_outputs=True)) == sorted(map(os.path.basename, (job.outfile, job.errfile)))
    assert (wd / "other.cluster.script").exists()
    conf.set_option("jobs", "scriptpath", str(wd / "s"))
    again = fyrd.make_job_file("true", machine=SHELL)
    assert os.path.isfile(again)
    assert fyrd.clean_work_dirs() == [os.fspath(again)]


# --- tables and attributes ----------------------------------------------------------------------------------------------------


def test_keyword_tables() -> None:
    assert options.COMMON["suffix"]["default"] == "cluster"
    assert options.CLUSTER_CORE["cores"]["type"] is int
    assert set(options.BATCH_KWDS) == set(queues.qtypes())
    assert options.SLURM_KWDS["qos"]["help"] == "quality of service"
    assert set(options.TORQUE_KWDS) | set(options.SLURM_KWDS) <= set(options.ALLOWED_KWDS)
    assert "pe" in options.SGE
    assert options.SYNONYMS["memory"] == "mem"
    assert fyrd.option_to_string("mem", "1GB", "slurm").startswith("#SBATCH --mem")
    assert fyrd.option_to_string("account") == ""
    assert fyrd.option_to_string("stdout", "x", "torque") == "#PBS -o x"
    assert fyrd.option_to_string("modules", "a,b", "slurm") == "module load a\nmodule load b"
    table = fyrd.option_help("merged_table", tablefmt="pipe").splitlines()
    assert table[0].startswith("| option ")
    assert "Some batch systems" in fyrd.option_help("table", tablefmt="plain")
    with pytest.raises(TypeError, match="not a whole number"):
        fyrd.check_arguments({"nodes": "two"})


def test_attributes_of_a_job() -> None:
    job = fyrd.Job("echo a", machine=SHELL, clean_files=False, runpath="r", scriptpath="s", outpath="o").write()
    assert job.queue_info is None
    assert [os.path.relpath(each) for each in (job.runpath, job.scriptpath, job.outpath)] == ["r", "r/s", "r/o"]
    assert job.submission.exists
    assert job.submission.script == "echo a\n"
    assert os.fspath(job) == job.exec_script == job.submission.file_name
    job.get()
    row = job.queue_info
    assert row is not None
    assert (row.state, row.get_exitcode(), row.jobcount("running"), row.array_job) == ("completed", 0, 0, False)
    job.submission.clean()
    assert not job.submission.exists


def test_questions_to_a_queue() -> None:
    queue = fyrd.Queue(qtype="local", queue=fyrd.JobQueue())
    assert bool(queue.can_submit)
    assert not queue.can_submit(0)
    assert queue.check_dependencies([]) == "good"
    assert queue.check_dependencies("7") == "absent"
    assert (queue.get_jobs("running"), queue.get_user_jobs("me"), queue.test_job_in_queue("7")) == ([], {}, False)
    assert repr(queue) == "<Queue local of all: 0 jobs>"
