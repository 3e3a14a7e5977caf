"""Outside the allocation: describe tasks, place them on a machine, come back to the results."""

from .description import systems
from .machines import registry

systems.hand_in(registry)
