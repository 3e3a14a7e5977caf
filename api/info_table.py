"""What is known of jobs and tasks, for people: a few lines for each, and a table of its iterations."""

from __future__ import annotations

from collections.abc import Iterator

from ..pilot.console import show
from ..pilot.wire import replies, reply_texts
from .amounts import duration, memory
from .tables import print_table


def print_info(name: str, entry: replies.Entry[replies.JobInfo]) -> None:
    """One job or task, as asked for by `name`."""
    info = entry.data
    if info is None:
        show(name, bold=True)
        show(f"  {entry.message}")
        return
    show(f"{name}: {info.state}{_progress(info.iterations)}", bold=True)
    for title, text in _members(info):
        show(f"  {title:<10} " + text.replace("\n", "\n" + " " * 13))
    if info.childs:
        header = ("TASK", "STATE", "NODE", "CORES", "TIME", "CODE", "ATTEMPTS", "MESSAGE")
        print_table(header, [_row(info.job_name, child) for child in info.childs])
    if info.next is not None:
        show("  there are more iterations")


def _progress(iterations: replies.Iterations | None) -> str:
    if iterations is None:
        return ""
    failed = f", {iterations.failed} failed" if iterations.failed else ""
    running = f", {iterations.running} running" if iterations.running else ""
    return f", {iterations.finished} of {iterations.total} done{failed}{running}"


def _members(info: replies.JobInfo) -> Iterator[tuple[str, str]]:
    """What there is to say, by title."""
    if info.messages:
        yield "message", info.messages
    if info.runtime is not None:
        yield from _ran(info.runtime)
    for moment, state in reply_texts.parse_history(info.history or ""):
        yield state.lower(), f"{moment:%Y-%m-%d %H:%M:%S}"
    if info.explain:
        yield "why", "\n".join(info.explain)


def _ran(runtime: replies.Runtime) -> Iterator[tuple[str, str]]:
    for node, cores in reply_texts.parse_allocation(runtime.allocation or ""):
        yield "node", f"{node}, cores {','.join(cores)}"
    if runtime.resources:
        yield "resources", runtime.resources
    if runtime.wd:
        yield "folder", runtime.wd
    if runtime.exit_code is not None:
        yield "exit code", runtime.exit_code + (f" (signal {runtime.signal})" if runtime.signal else "")
    took = _took(runtime)
    if took:
        yield "ran for", took
    if runtime.cpu_s is not None:
        yield "CPU time", f"{float(runtime.cpu_s):.2f} s"
    if runtime.max_rss_kib is not None:
        yield "memory", f"at most {memory(int(runtime.max_rss_kib) // 1024)}"
    if runtime.attempts not in (None, "1"):
        yield "attempts", str(runtime.attempts)


def _took(runtime: replies.Runtime) -> str:
    took = reply_texts.parse_rtime(runtime.rtime or "")
    if took is None:
        return ""
    seconds = took.total_seconds()
    return f"{seconds:.2f} s" if seconds < 60 else duration(seconds)


def _row(job: str, child: replies.IterationInfo) -> tuple[str, ...]:
    runtime = child.runtime or replies.Runtime()
    cores = sum(len(ids) for _, ids in reply_texts.parse_allocation(runtime.allocation or ""))
    return (
        f"{job}:{child.iteration}",
        child.state,
        runtime.node or "",
        str(cores or ""),
        _took(runtime),
        runtime.exit_code or "",
        runtime.attempts or "",
        child.messages or "",
    )
