"""Reduces a mutation session to some mutants drawn at random: all of them would take a day."""

from __future__ import annotations

import random
import sys

from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import WorkerOutcome, WorkResult


def main(session: str, count: str, seed: str) -> None:
    """Keep `count` of the session's mutants, drawn with `seed`; the others count as skipped."""
    with use_db(session) as mutants:
        pending = sorted(mutants.pending_work_items, key=lambda item: item.job_id)
        pending.sort(key=lambda item: repr(item.mutations))  # job ids differ from session to session
        drawn = {item.job_id for item in random.Random(seed).sample(pending, min(int(count), len(pending)))}
        skipped = [item for item in pending if item.job_id not in drawn]
        for item in skipped:
            mutants.set_result(item.job_id, WorkResult(WorkerOutcome.SKIPPED, output="not drawn"))
        print(f"{len(drawn)} of {len(pending)} mutants, seed {seed}")


if __name__ == "__main__":
    main(*sys.argv[1:])
