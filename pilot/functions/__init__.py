"""Python functions as tasks: the program that calls them, and how arguments and results are written.

`worker.py` is run by the Python that the user has chosen, which may know nothing of Pilotfish: it and `values.py` import
nothing of ours, and find each other by their folder.
"""
