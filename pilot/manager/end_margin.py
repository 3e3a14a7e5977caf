"""How long before its end an allocation starts nothing new."""

from __future__ import annotations

_MOST = 0.1
"""The part of a short allocation that may be spent on its end."""


def margin_for(end_margin_s: float, left_s: float | None) -> tuple[float, str]:
    """`--end-margin`, or a part of the `left_s` seconds that there are, where it would leave hardly any time for tasks.

    A chain of such allocations would go on for ever and run nothing. A margin that leaves time is obeyed, however long it is:
    somebody may know why. None: no end is known. With it a warning where another margin is kept than was asked for; else
    empty.
    """
    if left_s is None or end_margin_s <= left_s * (1 - _MOST):
        return end_margin_s, ""
    margin_s = max(0.0, left_s) * _MOST
    return margin_s, (
        f"this allocation, with {max(0.0, left_s):.0f} s left, is shorter than the margin of {end_margin_s:g} s before its end"
        f" (--end-margin); {margin_s:.0f} s are kept instead"
    )
