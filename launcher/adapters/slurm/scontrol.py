"""`scontrol`: show, hold, release, requeue and what of update a pilot can do."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from ...machines import slurm_facts
from . import others, sinfo
from .arguments import read
from .desk import MIN_JOB_AGE_S, Answer, Call, Desk, named, rows_of, version
from .errors import Refusal
from .jobs import Job
from .options import flags, valued
from .view import Row

TABLE = [
    *flags("all/a details/d federation/F help/h hide local oneliner/o quiet/Q verbose/v version/V"),
    *valued("clusters/M"),
]
_ENTITIES = (
    "job",
    "node",
    "partition",
    "config",
    "hostnames",
    "hostlist",
    "hostlistsorted",
    "step",
    "assoc_mgr",
    "daemons",
)


def scontrol(desk: Desk, call: Call) -> Answer:
    values, words = read("scontrol", call.words, TABLE)
    while words and words[0].startswith("-"):
        more, words = read("scontrol", words, TABLE)
        values |= more
    if "version" in values or words[:1] == ["version"]:
        return version("scontrol")
    if not words:
        raise Refusal("scontrol: error: an interactive scontrol is not served by a pilot; name a command")
    command = next((name for name in _COMMANDS if name.startswith(words[0].lower())), None)
    if words[0].lower() in _COMMANDS:
        command = words[0].lower()
    if command is None:
        raise Refusal(f"invalid keyword: {words[0]}\nscontrol: error: a pilot serves {', '.join(_COMMANDS)}")
    rest = [word for word in words[1:] if word not in ("-o", "--oneliner", "-d", "--details", "-dd", "-a", "--all")]
    if {"-o", "--oneliner"} & set(words[1:]):
        values["oneliner"] = ""
    return _COMMANDS[command](desk, call, values, rest)


def _show(desk: Desk, call: Call, values: Mapping[str, str], words: Sequence[str]) -> Answer:
    if not words:
        raise Refusal("too few arguments for keyword:show")
    entity = words[0].partition("=")[0].lower()
    names = [words[0].partition("=")[2]] if "=" in words[0] else list(words[1:])
    names = [
        name.partition("=")[2] if name.partition("=")[0].lower() in ("jobid", "job", "nodename") else name
        for name in names
    ]
    if entity.endswith("s") and entity not in _ENTITIES:
        entity = entity[:-1]
    entity = next((name for name in _ENTITIES if name.startswith(entity)), "") if entity not in _ENTITIES else entity
    one_line = "oneliner" in values
    if entity == "job":
        return _show_jobs(desk, call, names, one_line, bool({"all"} & set(values)))
    if entity in ("hostnames", "hostlist", "hostlistsorted"):
        return _hosts(entity, names, call.environ)
    if entity == "partition":
        return _blocks(_partitions(desk, names), one_line)
    if entity == "node":
        return _blocks(_nodes(desk, names), one_line)
    if entity == "config":
        return Answer(_config(desk))
    if entity == "daemons":
        return Answer("slurmctld slurmd \n")
    raise Refusal(
        f"invalid entity:{words[0]} for keyword:show \nscontrol: error: a pilot shows {', '.join(_ENTITIES[:6])}"
    )


def _blocks(blocks: list[list[str]], one_line: bool) -> Answer:
    if one_line:
        return Answer("".join(" ".join(line.strip() for line in block) + "\n" for block in blocks))
    return Answer("".join("\n   ".join(block) + "\n\n" for block in blocks))


def _hosts(entity: str, names: Sequence[str], environ: Mapping[str, str]) -> Answer:
    text = ",".join(names) or environ.get("SLURM_JOB_NODELIST", "")
    if not text:
        raise Refusal("invalid node list")
    if entity == "hostnames":
        return Answer("".join(f"{host}\n" for host in others.hosts(text)))
    hosts = others.hosts(text)
    return Answer(slurm_facts.hostlist(sorted(set(hosts)) if entity == "hostlistsorted" else hosts) + "\n")


def _show_jobs(desk: Desk, call: Call, names: Sequence[str], one_line: bool, all_jobs: bool) -> Answer:
    since = desk.now() - MIN_JOB_AGE_S
    if not names:
        jobs = [job for job in desk.queue if job.ended is None or job.ended > since]
        if not jobs:
            return Answer("No jobs in the system\n")
    else:
        jobs = _jobs(desk, names, lambda name: f"slurm_load_jobs error: {slurm_facts.UNKNOWN_JOB}")
    rows = rows_of(desk, jobs, call.environ, True)
    rows.sort(key=lambda row: (row.job.array_id, -(row.job.index or 0)))
    return _blocks([_job_block(row) for row in rows], one_line)


def _jobs(desk: Desk, names: Sequence[str], unknown: Callable[[str], str]) -> list[Job]:
    found: list[Job] = []
    for word in (part for name in names for part in name.split(",") if part):
        try:
            jobs = named(desk, word)
        except ValueError:
            jobs = []
        if not jobs:
            raise Refusal(unknown(word))
        found += jobs
    return list(dict.fromkeys(found))


def _job_block(row: Row) -> list[str]:
    """The lines of `scontrol show job`, in their order and with their words."""
    job, request, site = row.job, row.job.request, row.site
    shape = request.shape
    limit = "UNLIMITED" if request.time_limit is None else slurm_facts.full_elapsed(60 * request.time_limit)
    array = ""
    if job.index is not None:
        index = row.label.partition("_")[2].strip("[]").partition("%")[0] if row.elements else str(job.index)
        array = f" ArrayJobId={job.array_id} ArrayTaskId={index}"
        if request.array is not None and request.array.at_once:
            array += f" ArrayTaskThrottle={request.array.at_once}"
    memory = f"MinMemoryCPU={row.memory}" if request.mem_per_cpu else f"MinMemoryNode={row.memory}"
    started = row.moment(job.started or (request.begin if not job.is_over else None), "Unknown")
    return [
        f"JobId={job.id}{array} JobName={request.name}",
        f"UserId={site.user}({site.uid}) GroupId={site.user}({site.uid}) MCS_label=N/A",
        f"Priority={request.priority or max(0, 4294901760 - job.id)} Nice={request.nice} "
        f"Account={request.account or '(null)'} QOS={request.qos}"
        + (f" WCKey={request.wckey}" if request.wckey else ""),
        f"JobState={job.state} Reason={row.reason} Dependency={row.queue.unmet(job, row.now) or '(null)'}",
        f"Requeue={int(request.requeue)} Restarts={job.restarts} BatchFlag=1 Reboot=0 ExitCode={row.exit_status}",
        f"RunTime={slurm_facts.full_elapsed(job.ran_s(row.now))} TimeLimit={limit} TimeMin=N/A",
        f"SubmitTime={row.moment(job.submitted)} EligibleTime={row.moment(job.eligible, 'Unknown')}",
        f"AccrueTime={row.moment(job.eligible, 'Unknown')}",
        f"StartTime={started} EndTime={row.moment(row.expected_end, 'Unknown')} Deadline=N/A",
        f"SuspendTime=None SecsPreSuspend=0 LastSchedEval={row.moment(job.eligible or job.submitted)} Scheduler=Main",
        f"Partition={request.partition} AllocNode:Sid={site.host}:1",
        "ReqNodeList=(null) ExcNodeList=(null)",
        f"NodeList={row.nodelist or '(null)'}" if job.is_over or job.nodes else "NodeList=",
        *([f"BatchHost={job.nodes[0]}"] if job.nodes else []),
        f"NumNodes={row.node_count} NumCPUs={shape.cpus} NumTasks={sum(shape.tasks)} "
        f"CPUs/Task={request.cpus_per_task or 1} ReqB:S:C:T=0:0:*:*",
        f"TRES={row.tres()}",
        f"Socks/Node=* NtasksPerN:B:S:C={request.ntasks_per_node or 0}:0:*:* CoreSpec=*",
        f"MinCPUsNode={request.cpus_per_task or 1} {memory} MinTmpDiskNode=0",
        f"Features={'&'.join(request.tags) or '(null)'} DelayBoot=00:00:00",
        f"OverSubscribe={'NO' if shape.whole else 'OK'} Contiguous=0 Licenses=(null) Network=(null)",
        f"Command={' '.join([request.command, *request.arguments]) or '(null)'}",
        f"WorkDir={request.work_dir}",
        *([f"Comment={request.comment} "] if request.comment else []),
        f"StdErr={row.file('error')}",
        f"StdIn={row.file('input')}",
        f"StdOut={row.file('output')}",
        "Power=",
        *([f"TresPerNode=gres:gpu:{shape.gpus}"] if shape.gpus else []),
    ]


def _partitions(desk: Desk, names: Sequence[str]) -> list[list[str]]:
    site = desk.site
    unknown = [name for name in names if name not in site.partitions]
    if unknown:
        raise Refusal(f"Partition {unknown[0]} not found")
    cores, memory = sum(node.cores for node in site.nodes), sum(node.mem_mib for node in site.nodes)
    gpus = sum(node.gpus for node in site.nodes)
    tres = f"cpu={cores},mem={memory}M,node={len(site.nodes)},billing={cores}" + (f",gres/gpu={gpus}" if gpus else "")
    return [
        [
            f"PartitionName={name}",
            "AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL",
            f"AllocNodes=ALL Default={'YES' if name == site.partitions[0] else 'NO'} QoS=N/A",
            "DefaultTime=NONE DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO",
            "MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED",
            f"Nodes={slurm_facts.hostlist(node.name for node in site.nodes)}",
            "PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO OverSubscribe=NO",
            "OverTimeLimit=NONE PreemptMode=OFF",
            f"State=UP TotalCPUs={cores} TotalNodes={len(site.nodes)} SelectTypeParameters=NONE",
            "JobDefaults=(null)",
            "DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED",
            f"TRES={tres}",
        ]
        for name in names or site.partitions
    ]


def _nodes(desk: Desk, names: Sequence[str]) -> list[list[str]]:
    wanted = [host for name in names for host in others.hosts(name)]
    known = {node.name: node for node in desk.site.nodes}
    for name in wanted:
        if name not in known:
            raise Refusal(f"Node {name} not found")
    used = desk.used()
    blocks = []
    for node in [known[name] for name in wanted] or desk.site.nodes:
        cores, gpus, memory, pilots = used.get(node.name, (0, 0, 0, "READY"))
        blocks.append(
            [
                f"NodeName={node.name} Arch={os.uname().machine} CoresPerSocket={node.cores} ",
                f"CPUAlloc={cores} CPUEfctv={node.cores} CPUTot={node.cores} CPULoad=N/A",
                "AvailableFeatures=(null)",
                "ActiveFeatures=(null)",
                f"Gres={f'gpu:{node.gpus}' if node.gpus else '(null)'}",
                f"NodeAddr={node.name} NodeHostName={node.name} Version={slurm_facts.VERSION}",
                f"RealMemory={node.mem_mib or 1} AllocMem={memory} FreeMem=N/A Sockets=1 Boards=1",
                f"State={sinfo.state_of(node, cores, pilots).upper()} ThreadsPerCore=1 TmpDisk=0 Weight=1 "
                "Owner=N/A MCS_label=N/A",
                f"Partitions={','.join(desk.site.partitions)} ",
                f"CfgTRES=cpu={node.cores},mem={node.mem_mib}M,billing={node.cores}"
                + (f",gres/gpu={node.gpus}" if node.gpus else ""),
                f"AllocTRES={f'cpu={cores}' if cores else ''}" + (f",gres/gpu={gpus}" if gpus else ""),
            ]
        )
    return blocks


def _config(desk: Desk) -> str:
    from .arrays import LARGEST

    facts = {
        "AccountingStorageEnforce": "none",
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "ClusterName": desk.site.name,
        "EnforcePartLimits": "ANY",
        "JobRequeue": "1",
        "KillWait": "10 sec",
        "MaxArraySize": str(LARGEST + 1),
        "MaxJobCount": "1000000",
        "MinJobAge": f"{MIN_JOB_AGE_S} sec",
        "MpiDefault": "none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CORE_MEMORY",
        "SLURM_VERSION": slurm_facts.VERSION,
        "SlurmctldHost[0]": desk.site.host,
        "SlurmUser": f"{desk.site.user}({desk.site.uid})",
    }
    head = f"Configuration data as of {slurm_facts.moment(desk.now())}\n"
    state = f"\nSlurmctld(primary) at {desk.site.host} is UP\n"
    return head + "".join(f"{name:<23} = {value}\n" for name, value in facts.items()) + state


def _on_jobs(act: Callable[[Desk, list[Job]], str]) -> Callable[[Desk, Call, Mapping[str, str], Sequence[str]], Answer]:
    def command(desk: Desk, call: Call, values: Mapping[str, str], words: Sequence[str]) -> Answer:
        if not words:
            raise Refusal("scontrol: error: too few arguments")
        errors = ""
        for word in (part for name in words for part in name.split(",") if part):
            jobs = _of_word(desk, word)
            if not jobs:
                errors += f"{slurm_facts.UNKNOWN_JOB} for job {word}\nslurm_suspend error: {slurm_facts.UNKNOWN_JOB}\n"
                continue
            errors += act(desk, jobs)
        return Answer(err=errors, code=1 if errors else 0)

    return command


def _of_word(desk: Desk, word: str) -> list[Job]:
    name, mark, value = word.partition("=")
    if mark and name.lower() in ("jobname", "name"):
        return [job for job in desk.queue if job.request.name == value]
    try:
        return named(desk, value if mark else word)
    except ValueError:
        return []


def _over(job: Job) -> str:
    return f"Job has already finished for job {job.label}\nslurm_suspend error: Job has already finished\n"


def _hold(desk: Desk, jobs: list[Job]) -> str:
    live = [job for job in jobs if not job.is_over]
    desk.hold(live)
    return "" if live else _over(jobs[0])


def _release(desk: Desk, jobs: list[Job]) -> str:
    live = [job for job in jobs if not job.is_over]
    for job in live:
        desk.queue.release(job)
    return "" if live else _over(jobs[0])


def _requeue(desk: Desk, jobs: list[Job], hold: bool = False) -> str:
    for job in jobs:
        if not job.request.requeue:
            text = "Requested operation is presently disabled"
            return f"{text} for job {job.label}\nslurm_requeue error: {text}\n"
        if job.state == "PENDING":
            text = "Job is pending execution"
            return f"{text} for job {job.label}\nslurm_requeue error: {text}\n"
    desk.requeue(jobs, hold)
    return ""


def _update(desk: Desk, call: Call, values: Mapping[str, str], words: Sequence[str]) -> Answer:
    """Of jobs that have not been given to the pilot yet; what runs keeps what it has, but for labels."""
    from . import update

    facts = {name.lower(): value for name, mark, value in (word.partition("=") for word in words) if mark}
    ids = facts.pop("jobid", "") or facts.pop("job", "")
    if not ids:
        raise Refusal("scontrol: error: a pilot updates jobs only: scontrol update JobId=ID NAME=VALUE")
    jobs = _jobs(desk, [ids], lambda name: f"slurm_update error: {slurm_facts.UNKNOWN_JOB}")
    return update.apply(desk, jobs, facts)


def _ping(desk: Desk, call: Call, values: Mapping[str, str], words: Sequence[str]) -> Answer:
    return Answer(f"Slurmctld(primary) at {desk.site.host} is UP\n")


def _write_script(desk: Desk, call: Call, values: Mapping[str, str], words: Sequence[str]) -> Answer:
    """`scontrol write batch_script ID [FILE]`."""
    if len(words) < 2 or words[0] != "batch_script":
        raise Refusal("scontrol: error: a pilot writes batch_script only")
    job = _jobs(desk, [words[1]], lambda name: f"job script retrieval failed: {slurm_facts.UNKNOWN_JOB}")[0]
    name = words[2] if len(words) > 2 else f"slurm-{job.id}.sh"
    if name == "-":
        return Answer(job.request.script)
    with open(os.path.join(call.cwd, name), "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(job.request.script)
    return Answer(f"batch script for job {job.id} written to {name}\n")


_COMMANDS: Mapping[str, Callable[[Desk, Call, Mapping[str, str], Sequence[str]], Answer]] = {
    "show": _show,
    "hold": _on_jobs(_hold),
    "uhold": _on_jobs(_hold),
    "release": _on_jobs(_release),
    "requeue": _on_jobs(_requeue),
    "requeuehold": _on_jobs(lambda desk, jobs: _requeue(desk, jobs, True)),
    "update": _update,
    "ping": _ping,
    "write": _write_script,
}
