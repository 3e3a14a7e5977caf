"""What a pilot of the tests starts with: the line in the pilot's registry."""

import toy_system

from pilotfish.pilot.systems import registry

registry.SYSTEMS = (toy_system.SYSTEM, *registry.SYSTEMS)
