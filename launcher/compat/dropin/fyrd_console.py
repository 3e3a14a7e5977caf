"""fyrd's command `fyrd`, and the short names of its parts, by `pilotfish job`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

Words = list[str]

_NOT_HERE = {
    "conf": 'options are in Pilotfish\'s own files; in Python: fyrd.conf.set_option("jobs", ...)',
    "local": "there is no server: jobs of this host run by themselves, or in the pilot of a fyrd.JobQueue",
}


def translate(words: Sequence[str]) -> list[list[str]]:
    """The command of ours. Ends the program (exit code 2) for what cannot be done here."""
    parser = argparse.ArgumentParser("fyrd", description="fyrd's command, by `pilotfish job`.")
    parser.add_argument("-v", "--verbose", action="store_true", help="no effect")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_run(commands.add_parser("run", aliases=["r"]))
    _add_submit(commands.add_parser("submit", aliases=["sub", "s"]))
    _add_wait(commands.add_parser("wait", aliases=["w"]))
    _add_queue(commands.add_parser("queue", aliases=["q"]))
    _add_profile(commands.add_parser("prof", aliases=["profile"]))
    keywords = commands.add_parser("keywords", aliases=["keys", "options"])
    for option in ("-t --table", "-s --split-tables", "-l --list"):
        keywords.add_argument(*option.split(), action="store_true")
    keywords.set_defaults(ours=lambda given: ["keywords", *(["--names"] if given.list else [])])
    _add_clean(commands.add_parser("clean"))
    for name, aliases in (("conf", ["config"]), ("local", ["server"])):
        commands.add_parser(name, aliases=aliases, add_help=False).set_defaults(missing=name)
    given, more = parser.parse_known_args(words)
    if "missing" in given:
        parser.error(f"{given.missing}: {_NOT_HERE[given.missing]}")
    if more:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    ours: Callable[[argparse.Namespace], Words] = given.ours
    return [["job", *ours(given)]]


def _add_options(command: argparse.ArgumentParser) -> None:
    for option in ("-p --profile", "-c --cores", "-m --mem", "-t --time", "-a --args"):
        command.add_argument(*option.split())
    command.add_argument("-w", "--wait", action="store_true")
    command.add_argument(
        "-k", "--keep", action="store_true", help="no effect: scripts stay until `pilotfish job clean`"
    )
    command.add_argument("-l", "--clean", action="store_true", help="remove what was printed, with --wait")
    _add_notice(command)


def _add_notice(command: argparse.ArgumentParser) -> None:
    command.add_argument("--no-notify", action="store_true", help="no effect: nothing is sent")


def _options(given: argparse.Namespace) -> Words:
    words: Words = []
    for name in ("profile", "cores", "mem", "time", "args"):
        value = getattr(given, name)
        words += [] if value is None else [f"--{name}", value]
    return words + [f"--{name}" for name in ("wait", "clean") if getattr(given, name)]


def _add_run(command: argparse.ArgumentParser) -> None:
    _add_options(command)
    command.add_argument("-s", "--simple", action="store_true")
    command.add_argument("-x", "--extra-vars")
    command.add_argument("-d", "--dry-run", action="store_true")
    command.add_argument("shell_script")
    command.add_argument("file_parsing", nargs="*")
    command.set_defaults(ours=_run)


def _run(given: argparse.Namespace) -> Words:
    words = ["run", *_options(given)]
    words += [f"--{name}" for name in ("simple", "dry-run") if getattr(given, name.replace("-", "_"))]
    words += ["--extra-vars", given.extra_vars] if given.extra_vars else []
    return [*words, "--", given.shell_script, *given.file_parsing]


def _add_submit(command: argparse.ArgumentParser) -> None:
    _add_options(command)
    command.add_argument("job_files", nargs="+")
    command.set_defaults(ours=lambda given: ["submit", *_options(given), "--", *given.job_files])


def _add_wait(command: argparse.ArgumentParser) -> None:
    _add_notice(command)
    command.add_argument("-u", "--users", default="", help="names with commas between")
    command.add_argument("jobs", nargs="*")
    command.set_defaults(ours=lambda given: ["wait", *_each("--user", given.users.split(",")), *given.jobs])


def _add_queue(command: argparse.ArgumentParser) -> None:
    command.add_argument("-u", "--users", nargs="+", default=[])
    command.add_argument("-a", "--all-users", action="store_true")
    command.add_argument("-p", "--partitions", nargs="+", default=[])
    for option in ("-r --running", "-q --queued", "-d --done", "-b --bad", "-l --list", "-c --count", "-n --nodes"):
        command.add_argument(*option.split(), action="store_true")
    command.set_defaults(ours=_queue)


def _queue(given: argparse.Namespace) -> Words:
    words = ["queue", *_each("--user", given.users), *_each("--partition", given.partitions)]
    ours = {
        "all_users": "--all",
        "list": "--ids",
        **{name: f"--{name}" for name in ("running", "queued", "done", "bad", "count")},
    }
    return words + [option for name, option in ours.items() if getattr(given, name)]


def _each(option: str, values: Sequence[str]) -> Words:
    return [word for value in values if value for word in (option, value)]


def _add_profile(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", required=True)
    show = actions.add_parser("show", aliases=["list"])
    show.add_argument("-n", "--name", nargs="+", default=[])
    show.set_defaults(ours=lambda given: ["profile", *(["show", *given.name] if given.name else ["list"])])
    for ours, *names in (
        ("create", "add", "new"),
        ("edit", "update", "alter", "edit"),
        ("", "remove-option", "del-option"),
    ):
        change = actions.add_parser(names[0], aliases=names[1:])
        change.add_argument("name")
        change.add_argument("options", nargs="+", help="NAME:VALUE, or NAME to remove it")
        change.set_defaults(ours=_unset if not ours else _change, change=ours)
    remove = actions.add_parser("delete", aliases=["del"])
    remove.add_argument("name")
    remove.set_defaults(ours=lambda given: ["profile", "remove", given.name])


def _change(given: argparse.Namespace) -> Words:
    return ["profile", given.change, given.name, *(option.replace(":", "=", 1) for option in given.options)]


def _unset(given: argparse.Namespace) -> Words:
    return ["profile", "edit", given.name, *_each("--unset", given.options)]


def _add_clean(command: argparse.ArgumentParser) -> None:
    command.add_argument("-o", "--outputs", action="store_true")
    command.add_argument("-s", "--suffix", help="no effect: only files of jobs that are known are removed")
    command.add_argument("-q", "--qtype", help="no effect")
    command.add_argument("-n", "--no-confirm", action="store_true")
    command.add_argument("dir", nargs="?")
    command.set_defaults(ours=_clean)


def _clean(given: argparse.Namespace) -> Words:
    options = [*(["--outputs"] if given.outputs else []), *(["--yes"] if given.no_confirm else [])]
    return ["clean", *options, *([given.dir] if given.dir else [])]


def monitor(words: Sequence[str]) -> list[list[str]]:
    """`monitor-jobs`: wait for jobs of some users, and single ones."""
    parser = argparse.ArgumentParser("monitor-jobs", description="fyrd's command, by `pilotfish job wait`.")
    parser.add_argument("-v", "--verbose", action="store_true", help="no effect")
    parser.add_argument("-q", "--quiet", action="store_true", help="no effect")
    parser.add_argument("-p", "--partition", nargs="+")
    parser.add_argument("-u", "--user", nargs="+", default=[])
    parser.add_argument("-j", "--jobs", nargs="+", default=[])
    given = parser.parse_args(words)
    if given.partition:
        parser.error("-p: write `pilotfish job queue -p PARTITION -l | xargs pilotfish job wait`")
    return [["job", "wait", *_each("--user", given.user), *given.jobs]]
