"""The schedule of a sweep that is given hours: that of its first start, or one that is planned now."""

from __future__ import annotations

import dataclasses
import time

from latentsweep.jobs.timing import StageTimes
from latentsweep.search.plan import SweepPlan
from latentsweep.search.planner import Planner
from latentsweep.search.schedule import Schedule
from latentsweep.storage.home import Home


def kept_plan(home: Home, plan: SweepPlan, seconds: float) -> SweepPlan | None:
    """The plan with the schedule of the sweep's first start; None where it was never started."""
    folder = home.sweeps / dataclasses.replace(plan, schedule=Schedule(seconds)).name
    schedule = SweepPlan.read(folder).schedule if (folder / "sweep.json").exists() else None
    return plan.scheduled(schedule) if schedule else None


def timed_plan(
    plan: SweepPlan, seconds: float, began: float, times: StageTimes, fixed: set[str], slots: int
) -> SweepPlan:
    """The plan with a schedule by the ``times`` of this machine, which leaves the ``fixed`` fields as they are.

    ``slots`` trainings run at once; ``began`` is when the driver did, by ``time.monotonic()``. Raises
    :class:`ConfigError` where the ``seconds`` don't hold a sweep.
    """
    planner = Planner(
        plan.recipe,
        times.costs(plan.keys_of(plan.recipe), plan.recipe),
        fixed,
        times.dataset.counts(plan.recipe.data.rule)["train"],
        len(plan.autoencoders()),
        plan.reachable(int(seconds)),  # no trial takes less than a second
        slots,
        confirms=len(plan.search.objectives) == 1,
    )
    return plan.scheduled(planner.plan(seconds, time.monotonic() - began))
