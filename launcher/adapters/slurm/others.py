"""What programs ask besides: sacctmgr's lists of the one user and their accounts; commands that a pilot has no answer for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ....pilot.model.errors import SettingsError
from .arguments import read
from .desk import Answer, Call, Desk, version
from .errors import Refusal
from .options import flags


def hosts(text: str) -> list[str]:
    """As `scontrol show hostnames`; the launcher has no such parser of its own. Raises Refusal."""
    from ....pilot.systems import hostlist

    try:
        return hostlist.hosts(text, "hostlist")
    except SettingsError:
        raise Refusal(f"Invalid hostlist: {text}") from None


_SACCTMGR = flags("associations/s immediate/i noheader/n parsable/p parsable2/P quiet/Q readonly/r verbose/v version/V")


def sacctmgr(desk: Desk, call: Call) -> Answer:
    """`sacctmgr show|list ENTITY [WHERE] [format=…]`."""
    values, words = read("sacctmgr", call.words, _SACCTMGR)
    if "version" in values:
        return version("sacctmgr")
    if len(words) < 2 or words[0].lower() not in ("show", "list"):
        raise Refusal("sacctmgr: error: a pilot has no accounts to change; it answers show and list")
    entity = words[1].lower().rstrip("s")
    entity = next((name for name in _ROWS if name.startswith(entity)), "")
    if not entity:
        raise Refusal(f"sacctmgr: error: a pilot shows {', '.join(_ROWS)}")
    wide = "associations" in values or "withassoc" in (word.lower() for word in words[2:])
    site = desk.site
    everything = {
        "account": site.accounts[0], "user": site.user, "cluster": site.name,
        "qos": "normal", "defaultqos": "normal", "name": "normal",
        "defaultaccount": site.accounts[0], "adminlevel": "None", "descr": "pilot", "description": "pilot", "org": "pilot",
        "organization": "pilot", "controlhost": site.host, "controlport": "0", "rpc": "9728", "priority": "0", "share": "1",
        "fairshare": "1", "partition": "", "flags": "",
    }  # fmt: skip
    columns, wanted = list(_ROWS[entity]), set(site.accounts)
    shown = True
    if entity == "user" and wide:
        columns = ["user", "defaultaccount", "adminlevel", "cluster", "account", "partition", "share", "qos"]
    for word in words[2:]:
        name, mark, value = word.partition("=")
        if name.lower() == "format" and mark:
            columns = [column for column in value.split(",") if column]
        elif mark and name.lower() in ("user", "users", "name", "names", "account", "accounts", "cluster", "clusters"):
            key = {"name": entity, "names": entity}.get(name.lower(), name.lower().rstrip("s"))
            if key == "account":
                wanted &= set(value.split(","))
            else:
                shown = shown and everything.get(key, "") in value.split(",")
        elif (
            not mark
            and word.lower() not in ("where", "withassoc", "withcoord")
            and entity in ("user", "account", "cluster")
        ):
            if entity == "account":
                wanted &= set(word.split(","))
            else:
                shown = shown and everything[entity] in word.split(",")
    of_accounts = entity in ("account", "association") or (entity == "user" and wide)
    named = [name for name in site.accounts if name in wanted] if of_accounts else [site.accounts[0]]
    return Answer(_listed(columns, [{**everything, "account": name} for name in named if shown], everything, values))


_ROWS: Mapping[str, Sequence[str]] = {
    "association": ("cluster", "account", "user", "partition", "share", "qos", "defaultqos"),
    "user": ("user", "defaultaccount", "adminlevel"),
    "account": ("account", "descr", "org"),
    "cluster": ("cluster", "controlhost", "controlport", "rpc", "share", "qos"),
    "qos": ("name", "priority", "flags"),
}


def _listed(
    columns: Sequence[str], rows: Sequence[Mapping[str, str]], known: Mapping[str, str], values: Mapping[str, str]
) -> str:
    headings, keys, widths = [], [], []
    for column in columns:
        name, _, width = column.partition("%")
        key = next((key for key in known if key == name.lower()), None) or next(
            (key for key in known if name and key.startswith(name.lower())), None
        )
        if key is None or (width and not width.lstrip("-").isdigit()):
            raise Refusal(f"sacctmgr: error: Unknown field '{name}'")
        headings.append(name.capitalize())
        keys.append(key)
        widths.append(int(width.lstrip("-") or 10))
    lines = [headings] if "noheader" not in values else []
    lines += [[row[key] for key in keys] for row in rows]
    if "parsable" in values or "parsable2" in values:
        end = "|" if "parsable" in values else ""
        return "".join("|".join(line) + end + "\n" for line in lines)
    text = ["".join(f"{word[:width]:>{width}} " for word, width in zip(line, widths, strict=True)) for line in lines]
    if "noheader" not in values:
        text.insert(1, "".join("-" * width + " " for width in widths))
    return "".join(f"{line}\n" for line in text)


REFUSED: Mapping[str, str] = {
    "salloc": "a pilot gives no shell on its nodes; submit a batch job, or use srun COMMAND",
    "sattach": "output of steps goes to files",
    "sbcast": "the pilot's nodes see the same files, or none",
    "scrontab": "a pilot repeats nothing",
    "sdiag": "ask `pilotfish status`",
    "sprio": "a pilot starts jobs by priority and age alone",
    "sreport": "a pilot keeps no reports over time; ask sacct",
    "sshare": "a pilot has one user and no shares",
    "sstat": "a pilot does not gather the usage of running steps",
    "strigger": "a pilot has no triggers",
}
"""Commands of Slurm that have no meaning here. They are there so that none of them reaches a real Slurm by mistake."""


def refused(desk: Desk, call: Call) -> Answer:
    if call.words and call.words[0] in ("-V", "--version"):
        return version(call.command)
    raise Refusal(f"{call.command}: error: not served by a pilot: {REFUSED[call.command]}")
