"""A hundred tasks from Python, and what became of them."""

from pilotfish import Jobs, LocalManager

with LocalManager() as pilot:
    pilot.submit(
        Jobs().add(name="hello", exec="echo", args=["task ${it}"], stdout="out/hello-${it}.txt", iteration=100)
    )
    print(pilot.wait4("hello"))
    print(pilot.info_parsed("hello:7")["hello:7"].time)
