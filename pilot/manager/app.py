"""Puts the parts of a manager together: start order, stop order, exit code.

Start order: folder, log, journal (and what it says), endpoints, connection file, agents, then ready. Nothing is served before
the journal has been read, and nobody is told where we are before the endpoints are open.
"""

from __future__ import annotations

import logging
import os
import resource
import secrets
import shutil
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from .. import clock, early_warnings, variable_names
from ..console import echo, why_not
from ..exit_codes import ExitCode
from ..inherited import Inherited
from ..model.decisions import Changes
from ..model.errors import PilotfishError, SettingsError, UsageError
from ..model.holdings import MOST_LIVES
from ..model.scheduler import Scheduler
from ..systems import local, registry
from ..systems.base import Allocation
from ..systems.detect import detect
from ..systems.host_env import this_host
from ..systems.named_resources import parse_all, with_own
from ..version import VERSION
from ..wire import connection, records
from ..wire.room import check_room_for_sockets
from . import agent_launch_plan, allocations, auxdir, original_run
from .accept_limit import limit_connections, reserved
from .auxdir import AuxDir
from .call_results import CallOutboxes
from .compacting import compact, mostly_removed
from .config import Settings
from .endpoints import Endpoints, open_endpoints
from .garbage import Garbage
from .job_info import Views
from .logs import configure_log
from .parts import Parts
from .publisher import Publisher
from .recent import Recent
from .reporter import Reporter
from .request_file import RequestFile
from .resume import Replayed, replay
from .resumed_nodes import ResumedNodes, settle_nodes
from .service import Service
from .store import Store
from .value_folder import ValueFolder

log = logging.getLogger(__name__)

_LAST_LIFE_ENDS_S = 5.0
"""How long a resumed pilot waits for the manager that has its journal: whoever started that one may just have been killed."""

_DESCRIPTORS = 24
"""What a manager with one agent and two clients opens."""
_THREADS = 4
"""Of its own: disk_sync and last_lines have one, metrics may have two."""


def run(settings: Settings) -> int:
    """Run one manager to its end. Exit code: 0, 128 + signal; 2 for settings it cannot use, 1 when it could not start."""
    try:
        allocations.check(settings.allocations)
        service, feed = _start(settings)
    except Exception as error:
        reason = str(error) if isinstance(error, PilotfishError) else why_not(error)
        if reason is None:
            raise
        if logging.root.handlers:  # else the reason would be said twice
            log.error("service.not_started", extra={"reason": reason})
        _tell_starter(settings, f"error: {reason}")
        echo(f"Error: {reason}", err=True)
        return ExitCode.BAD_INPUT if isinstance(error, UsageError) else ExitCode.FAILED
    aux = service.parts.aux.path
    allocations.begin(aux, settings.allocations, service.parts.status.warn)
    _tell_starter(settings, str(service.parts.aux.connection))
    if feed is not None:
        service.parts.loop.call_after(0, feed.serve)
    Garbage.begin()
    allocations.watch(service.parts.loop, aux)
    code = service.run()
    allocations.replace_killed(aux)  # it takes back what was asked for
    return _leave(code)


def _leave(code: int) -> NoReturn:
    """End the process here: the interpreter would let go of a million jobs one by one, which takes it ten seconds."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, full, or none at all
            stream.flush()
    os._exit(code)


def _start(settings: Settings) -> tuple[Service, RequestFile | None]:
    inherited = _free_of_limits()
    check_room_for_sockets(_DESCRIPTORS + reserved(), _THREADS)
    aux, settings = _folder(settings)
    try:
        auxdir.await_room(aux, settings.resume is not None and settings.ready_fd is None)
        is_new = settings.resume is None or not aux.is_begun
        store = Store.create(aux.journal) if is_new else Store.open(aux.journal, _LAST_LIFE_ENDS_S)
    except BaseException:
        if settings.resume is None:
            with suppress(OSError):
                aux.path.rmdir()  # only when nothing is in it: somebody else may have begun meanwhile
        raise
    try:
        service, feed, replayed = _put_together(settings, aux, store, inherited)
    except BaseException:
        store.close()
        if settings.resume is None:
            shutil.rmtree(aux.path, ignore_errors=True)  # the journal is held by us, and nobody has been told of it
        raise
    ResumedNodes(service.parts, service.watch, replayed.agents).start_agents()
    return service, feed


def _put_together(
    settings: Settings, aux: AuxDir, store: Store, inherited: Inherited
) -> tuple[Service, RequestFile | None, Replayed]:
    configure_log(aux.log, settings.log)
    log.info("service %s version %s started %s @ %s (with tags %s)", *_first_line(settings, aux))
    warnings = [_without_locks(aux, store.lock_weakness)] if store.lock_weakness else []
    aux.write_env(os.environ, with_values=settings.log == "debug")
    with suppress(OSError):
        aux.final_status.unlink()  # of an earlier life
    allocation = _allocation(settings)
    scheduler = Scheduler(
        crash_limit=settings.crash_limit,
        reserve_after_s=settings.reserve_after_s,
        of_pool=parse_all(settings.pool_resource, "--pool-resource"),
        system_core=settings.system_core,
        life=secrets.randbelow(MOST_LIVES - 1) + 1 if settings.resume else 0,
    )
    scheduler.nodes.elastic = settings.governor or settings.allocations is not None
    views = Views(scheduler, settings.wd)
    epoch = secrets.token_hex(8)
    folder = ValueFolder(aux.path, allocation.kind in registry.VIRTUAL)
    outboxes = CallOutboxes(epoch, store.append, folder, scheduler.jobs)
    recent = Recent(scheduler.jobs, views, aux.path)
    recent.keep_log()
    reporter, replayed = _replay(settings, aux, store, scheduler, views, recent, outboxes, warnings)
    outboxes.expect_all()
    settle_nodes(allocation.nodes, scheduler, store)
    launcher = agent_launch_plan.launcher_for(settings, allocation)
    recipe = agent_launch_plan.recipe_for(settings, launcher, len(allocation.nodes), aux)
    recipe = replace(recipe, environ={**recipe.environ, variable_names.INHERITED: inherited.as_word()})
    limit_connections()
    endpoints = open_endpoints(
        settings,
        auxdir.socket_folder(aux),
        aux.agent_keys,
        agents_elsewhere=not launcher.is_agent or settings.governor or settings.net,
        clients_elsewhere=allocation.job_id is not None,
    )
    publisher = Publisher(endpoints.events, aux.instance_id, int(time.time()) << 20 if settings.resume else 0)
    store.append(records.Opened(aux.instance_id, epoch, clock.now()))
    store.write()
    recipe = agent_launch_plan.with_endpoints(recipe, _publish(aux, endpoints))
    parts = Parts.build(
        settings, aux, allocation, scheduler, store, endpoints, views, publisher, reporter, recent, outboxes
    )
    for warning in warnings:
        parts.status.warn(warning)
    service = Service(parts, recipe, epoch)
    service.metrics.open()
    _install_signals(service)
    feed = service.read_requests(Path(settings.file_path)) if settings.file else None
    return service, feed, replayed


def _allocation(settings: Settings) -> Allocation:
    """The nodes we have, as the settings or the batch system say; a governor has none of its own.

    Nor has a pilot that asks for allocations: it is on a login node, unless it is in a batch job.
    """
    host_env, file = this_host(os.environ), settings.resources_document
    allocation = detect(host_env, settings.nodes, settings.resources, settings.nodes_range, file)
    asks = settings.allocations is not None and allocation.kind == local.SYSTEM.name
    nodes = () if settings.governor or asks else allocation.nodes
    named = parse_all(settings.resource, "--resource")
    nodes = tuple(replace(node, tags=settings.tags, named=with_own(node, named)) for node in nodes)
    of_pool = {each.name for each in parse_all(settings.pool_resource, "--pool-resource")}
    for node in nodes:
        for each in node.named:
            if each.name in of_pool:
                remedy = "call one of them otherwise"
                raise SettingsError(f'"{each.name}" is node {node.name}\'s too', where="--pool-resource", remedy=remedy)
    return replace(allocation, nodes=nodes)


def _without_locks(aux: AuxDir, reason: str) -> str:
    return (
        f"{aux.path}: there are no file locks here ({reason}): {aux.journal.name}.lock.held stands for one; "
        "pilots of this host exclude each other by it, one that is killed on another host leaves it behind"
    )


def _free_of_limits() -> Inherited:
    """Allow us as many connections as there may be, and all signals; returns what tasks are to find again."""
    inherited = Inherited.note()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return inherited


def _first_line(settings: Settings, aux: AuxDir) -> tuple[str, str, str, str, str]:
    tags = ",".join([aux.instance_id, *settings.tags])
    return aux.instance_id, VERSION, time.strftime("%Y-%m-%d %H:%M:%S"), socket.gethostname(), tags


def _folder(settings: Settings) -> tuple[AuxDir, Settings]:
    """The auxiliary folder, new or resumed, and the settings with the working directory made absolute."""
    if settings.resume is not None:
        aux = auxdir.resume_folder(settings.resume)
        if original_run.is_original(aux.path):
            original_run.take_over(aux.path)
        aux.check_resumable()
        return aux, replace(settings, wd=aux.path.parent)
    settings = replace(settings, wd=settings.wd.absolute())
    if settings.id is not None:
        return auxdir.create(settings.wd, settings.id), settings
    return auxdir.create_unused(settings.wd, socket.gethostname()), settings


def _replay(
    settings: Settings,
    aux: AuxDir,
    store: Store,
    scheduler: Scheduler,
    views: Views,
    recent: Recent,
    outboxes: CallOutboxes,
    warnings: list[str],
) -> tuple[Reporter | None, Replayed]:
    """Read the journal, if there is one, and write the report of what it tells: each ending is in it exactly once."""
    path = aux.path / settings.report_file
    reporter = None if settings.report_format == "none" else Reporter(path, settings.report_format)

    def report(changes: list[Changes]) -> None:
        recent.note([changes])
        outboxes.changed(changes)
        if reporter is not None:
            reporter.add_ended(changes, views)

    def reported(size: int) -> None:
        if reporter is not None:
            reporter.begin_with(size)

    if settings.resume is None:
        if reporter is not None:
            reporter.write()
        return reporter, Replayed()
    replayed = replay(store.replay(), scheduler, report, reported, outboxes.remember)
    if store.torn is not None:
        warnings.append(
            f"{aux.journal}: its last {store.torn.dropped_bytes} bytes were not whole and are cut off: what a killed manager "
            "was writing, which nobody was told of; or, if the file system has crashed, work that was accepted"
        )
    for reason in store.senseless:
        replayed.leave_out(reason)
    if replayed.left_out:
        warnings.append(f"{aux.journal}: {replayed.left_out} things cannot be true and do not count; see {aux.log}")
    log.info("journal.replayed", extra={"records": replayed.records, "jobs": len(scheduler.jobs)})
    if reporter is not None:
        reporter.write()
    if mostly_removed(scheduler.jobs):
        compact(store, reporter, scheduler.jobs)
    return reporter, replayed


def _publish(aux: AuxDir, endpoints: Endpoints) -> connection.ConnectionFile:
    """Write where we are: the connection file, and the one address that old scripts read."""
    keys = endpoints.keys
    info = connection.ConnectionFile(
        instance_id=aux.instance_id,
        pid=os.getpid(),
        host=socket.gethostname(),
        started_s=clock.now(),
        aux_dir=str(aux.path),
        request_addresses=endpoints.request_addresses,
        event_addresses=endpoints.event_addresses,
        agent_addresses=endpoints.agent_addresses,
        server_public_key=keys.server_public if keys else "",
        client_public_key=keys.client_public if keys else "",
        client_secret_key=keys.client_secret if keys else "",
        agent_endpoints=endpoints.agent_endpoints,
    )
    connection.write(aux.connection, info)
    aux.write_address(endpoints.address)
    return info


def _install_signals(service: Service) -> None:
    def interrupted() -> None:
        if service.shutdown.stopping:
            service.watch.hurry()
            return
        echo(f"{time.strftime('%Y-%m-%d %H:%M:%S')} signal interrupt - stopping service")
        service.shutdown.stop(ExitCode.INTERRUPTED)

    service.parts.loop.on_signal([signal.SIGINT], interrupted)
    stops = [signal.SIGTERM, signal.SIGHUP]
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup: the end of the terminal is not ours
        stops.remove(signal.SIGHUP)
    service.parts.loop.on_signal(stops, lambda: _told_to_stop(service))
    service.parts.loop.on_signal(early_warnings.NUMBERS, service.ending.begin)
    if early_warnings.take():
        service.parts.loop.call_after(0, service.ending.begin)
    lifeline = service.parts.settings.lifeline_fd
    if lifeline is not None:
        service.parts.loop.on_readable(lifeline, lambda: _lifeline_cut(service, lifeline))
    hold = service.parts.settings.hold_fd
    if hold is not None:
        service.held = True
        service.parts.loop.on_readable(hold, lambda: _released(service, hold))


def _told_to_stop(service: Service) -> None:
    """In an allocation SIGTERM is how the batch system says that it is over."""
    if service.parts.allocation.job_id is not None:
        service.ending.stop()
    else:
        service.shutdown.stop(ExitCode.TOLD_TO_STOP)


def _lifeline_cut(service: Service, lifeline: int) -> None:
    """The process that started us is gone: nobody would ever ask for the results of what still runs."""
    service.parts.loop.forget(lifeline)
    log.warning("lifeline.cut")
    service.shutdown.stop(ExitCode.TOLD_TO_STOP)


def _released(service: Service, hold: int) -> None:
    """Whoever started us has settled what is to be done. One that is gone has settled nothing."""
    service.parts.loop.forget(hold)
    if os.read(hold, 1):
        service.held = False


def _tell_starter(settings: Settings, line: str) -> None:
    if settings.ready_fd is not None:
        with suppress(OSError):
            os.write(settings.ready_fd, os.fsencode(line) + b"\n")
            os.close(settings.ready_fd)
