"""Pictures in the formats that matplotlib has (PNG, PDF, JPEG ...), where it is installed."""

from __future__ import annotations

from collections.abc import Sequence

from ...pilot.model.errors import PilotfishError, UsageError
from .figures import Span, limits
from .record import Record
from .timeline import coloured, layout

_MOST_ROWS = 1000
_COLOURS = {"good": "#2f7ebc", "bad": "#cf4527", "gap": "#9aa5b1"}
_LABELS = {"good": "succeeded", "bad": "ended otherwise", "gap": "idle"}
_MOST_LABELS = 64


def save(title: str, record: Record, spans: Sequence[Span], path: str) -> None:
    """Raises UsageError without matplotlib, or for a format it does not have."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "only with matplotlib are there pictures other than SVG",
            where=path,
            remedy="pip install matplotlib, or name a file .svg",
        ) from error
    rows, row_of = layout(record, _MOST_ROWS)
    first_s, last_s = limits(record)
    figure = Figure(figsize=(12, min(40.0, 1.5 + 0.18 * len(rows))), layout="tight")
    axes = figure.subplots()
    for kind, some in coloured(spans, record).items():
        axes.barh(
            [row_of[span.core] for span in some],
            [span.to_s - span.from_s for span in some],
            left=[span.from_s - first_s for span in some],
            height=0.85,
            color=_COLOURS[kind],
            label=_LABELS[kind],
        )
    every = max(1, len(rows) // _MOST_LABELS)
    axes.set_yticks(range(0, len(rows), every), [row.label for row in rows[::every]], fontsize=7)
    limits_of_axes = {"xlim": (0, max(1e-6, last_s - first_s)), "ylim": (max(0, len(rows) - 1) + 0.6, -0.6)}
    axes.set(xlabel="seconds", title=title, **limits_of_axes)
    if spans:
        axes.legend(loc="upper right")
    try:
        figure.savefig(path)
    except ValueError as error:
        raise UsageError(str(error), where=path, remedy="name a file .svg, .png or .pdf") from error
    except OSError as error:
        raise PilotfishError(f"cannot be written: {error.strerror}", where=path) from error
