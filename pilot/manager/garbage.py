"""Python's garbage collection, at the end of turns instead of anywhere in them.

A million jobs are long-lived objects without cycles: to look through them again and again finds nothing and takes seconds, so
that is never done. What is young is looked through, and that has to be little each time. Python itself waits until so many
objects more were made than let go; a submit that makes a description for each dictionary it lets go can make a million before
that, and then one collection takes a tenth of a second. At the end of a turn there is what one turn has made.

What outlives two collections is not looked at again: cycles that live longer than some turns must be broken by who made them.
"""

from __future__ import annotations

import gc

_MANY = 10_000
"""Objects more than at the last collection: then it is time for one."""
_TURNS = 10
"""After so many turns it is, whatever the count says: it tells the difference only."""
_ROUNDS = 5
_MANY_LEFT = 20_000
"""After so many collections, or when they may have left so many objects, that is looked through, too, for the last time.

Without the second, tasks that run for long (an attempt each, and its key) made that a tenth of a second where 2,000 are
started in each turn.
"""


class Garbage:
    """Looks through what is young; call `end_of_turn` at the end of each turn."""

    def __init__(self) -> None:
        self._turns = self._rounds = self._left = 0

    @staticmethod
    def begin() -> None:
        """Nothing that is there now is ever looked at again, and nothing is looked through but by us."""
        gc.collect()
        gc.freeze()
        gc.disable()

    def end_of_turn(self) -> None:
        self._turns += 1
        if self._turns < _TURNS and gc.get_count()[0] < _MANY:
            return
        self._turns = 0
        self._rounds += 1
        left, young = self._left, gc.get_count()[0]
        if self._rounds < _ROUNDS and (not left or left + young < _MANY_LEFT):
            self._left = left + young
            gc.collect(0)
        else:
            self._rounds = self._left = 0
            gc.collect(1)
