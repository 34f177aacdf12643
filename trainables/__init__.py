"""What a trial trains and measures: models, losses, schedules, samplers, loops, evaluation and figures.

Nothing here knows of Ray, MLflow or the command line: every function takes its configuration, its data and
a ``report`` callable, and can be read, tested and run by itself.
"""

import os

WAITING = {"GOMP_SPINCOUNT": "4000"}
"""How often a thread of PyTorch looks whether the others are ready before it sleeps, by GNU OpenMP, which reads this
when it is loaded. By default it looks for some milliseconds, and the thread that it waits for may need its core: a
step by two threads on two cores takes 15 times as long beside one busy process (``benchmarks/busy_cores.py``)."""

if "OMP_WAIT_POLICY" not in os.environ:  # by which the user decides
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
