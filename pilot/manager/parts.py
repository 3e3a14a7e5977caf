"""What the manager is made of: one frozen value that its pieces share instead of knowing each other.

Who needs the scheduler, the journal or the loop takes `Parts`; who has to know whether the pilot ends takes `Shutdown` besides.
Nothing here points back at what is built from it, so no piece can reach into another by way of its owner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .. import clock
from ..clock import Patience
from ..loop import Loop
from ..model.scheduler import Scheduler
from ..systems import registry
from ..systems.base import Allocation
from .auxdir import AuxDir
from .call_results import CallOutboxes
from .config import Settings
from .endpoints import Endpoints
from .job_info import Views
from .publisher import Publisher
from .recent import Recent
from .reporter import Reporter
from .status import Status
from .store import Store

_STEP_S = 0.5
_STEPS_BEFORE_LOST = 8
"""How often at least agents are listened to in the time after which they count as lost."""
_LEAST_SILENCE_S = 0.1


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one manager. `now`: seconds since the epoch; `patience`: the seconds in which the loop has listened."""

    settings: Settings
    aux: AuxDir
    allocation: Allocation
    scheduler: Scheduler
    store: Store
    endpoints: Endpoints
    views: Views
    publisher: Publisher
    reporter: Reporter | None
    recent: Recent
    status: Status
    outboxes: CallOutboxes
    loop: Loop
    patience: Patience
    now: Callable[[], float]

    @property
    def uses_models(self) -> bool:
        """Whether execution models count here (`--local-models`).

        Plain TCP is for unmodified clients, some of which always name a model and rely on its being ignored on one machine.
        """
        choice = self.settings.local_models or ("ignore" if self.settings.net_plain else "use")
        return choice == "use" or self.allocation.kind not in registry.VIRTUAL

    @classmethod
    def build(
        cls,
        settings: Settings,
        aux: AuxDir,
        allocation: Allocation,
        scheduler: Scheduler,
        store: Store,
        endpoints: Endpoints,
        views: Views,
        publisher: Publisher,
        reporter: Reporter | None,
        recent: Recent,
        outboxes: CallOutboxes,
        now: Callable[[], float] = clock.now,
    ) -> Parts:
        """Add what follows from the others: the loop, its patience, and the status."""
        loop = Loop()
        step_s = min(_STEP_S, max(settings.node_lost_s, _LEAST_SILENCE_S) / _STEPS_BEFORE_LOST)
        status = Status(settings, aux, endpoints, scheduler, publisher, now)
        patience = Patience(loop, step_s)
        return cls(
            settings,
            aux,
            allocation,
            scheduler,
            store,
            endpoints,
            views,
            publisher,
            reporter,
            recent,
            status,
            outboxes,
            loop,
            patience,
            now,
        )
