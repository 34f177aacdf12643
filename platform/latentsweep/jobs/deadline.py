"""The end of a sweep that was given hours: its clock, what that allows of trials and confirmation, and its note."""

from __future__ import annotations

from pathlib import Path

from latentsweep.search import confirmation
from latentsweep.search.clock import FILE, MOST_SEEDS, Clock, Needs, spent_seconds
from latentsweep.search.confirmation import Extent
from latentsweep.search.plan import SweepPlan
from latentsweep.search.schedule import Schedule
from latentsweep.search.study import Search
from latentsweep.stages.keys import Keys
from latentsweep.stages.table import SHARED, VAE
from latentsweep.storage.home import write_json
from latentsweep.storage.store import Store

NOTED_EVERY = 10.0
"""Seconds between two notes of the time, at least, while trainings report."""


class Deadline:
    """Says for a sweep in its ``folder`` what may still begin. Its driver began at ``began`` of ``time.monotonic()``,
    and runs ``slots`` trainings at once."""

    def __init__(
        self,
        plan: SweepPlan,
        schedule: Schedule,
        search: Search,
        store: Store,
        folder: Path,
        slots: int,
        began: float,
    ) -> None:
        self.plan, self.search, self.store, self.folder = plan, search, store, folder
        self.clock = Clock(schedule, slots, began, spent_seconds(folder))
        self.noted = self.clock.before
        """The seconds in the last note."""
        self.whole: set[int] = set()
        """The trials that are trained here from their first step on, whose time tells that of others."""

    @property
    def begun(self) -> Extent:
        """What is confirmed, or being confirmed: nothing before the first fresh training."""
        return confirmation.last_extent(self.search)

    def seconds_left(self) -> float:
        """Seconds until the hours are over."""
        return self.clock.left

    @property
    def undecided(self) -> bool:
        """Whether it is still to be said how much is confirmed."""
        planned = self.clock.schedule.configurations > 0
        return planned and not self.begun.configurations and bool(self.search.feasible())

    def another(self) -> bool:
        """Whether one more trial may begin; none does once the confirmation has begun."""
        if self.begun.configurations or self.search.exhausted():
            return False
        trained = all(self.store.find(name) for name in self.plan.autoencoders())
        return self.clock.another(without_autoencoder=not trained)

    def expect(self, number: int, keys: Keys) -> None:
        """A trial was asked for; it begins when its autoencoder is there."""
        self.clock.autoencoders = self._autoencoders()
        self.clock.expect(number, without_autoencoder=not self.store.find(keys.vae))

    def begin(self, number: int, keys: Keys) -> None:
        """A trial begins, or goes on where it was interrupted."""
        self.clock.begin(number)
        new = not self.store.find(keys.denoiser) and self.store.spent(keys.denoiser.name) is None
        if new and not self.search.pruned_before(self.search.trial(number)):
            self.whole.add(number)
        self.note()

    def end(self, number: int, *, complete: bool) -> None:
        """A trial ended, ``complete`` or pruned or failed."""
        self.clock.end(number, whole=complete and number in self.whole)
        self.note()

    def heard(self) -> None:
        """A training reported: notes the time where the last note is old, so that a kill loses little of it."""
        if self.clock.spent - self.noted >= NOTED_EVERY:
            self.note()

    def note(self) -> None:
        """Notes how long the sweep has run, for the runs that go on with it."""
        self.noted = self.clock.spent
        write_json(self.folder / FILE, {"seconds": round(self.noted, 1)})

    def next_extent(self) -> Extent:
        """What is confirmed in the time that is left: of what is confirmed already, the same or with more seeds."""
        self.clock.autoencoders = self._autoencoders()
        found = confirmation.confirmation(self.search)
        done = (self.begun.configurations, self.begun.seeds) if found else None
        return Extent(*self.clock.extent(self._needs(), done))

    def _autoencoders(self) -> list[float]:
        """Seconds of each autoencoder of the space that is trained, with all that follows from it."""
        named = [self.plan.keys_of(recipe) for recipe in self.plan.autoencoders().values()]
        stages = [stage.name for stage in SHARED if stage is VAE or stage.follows(VAE)]
        found = [[self.store.find(keys[stage]) for stage in stages] for keys in named]
        return [sum(entry.seconds for entry in each if entry) for each in found if all(each)]

    def _needs(self) -> Needs:
        """What confirming so many configurations with so many seeds lacks."""
        most = Extent(self.clock.schedule.configurations, MOST_SEEDS)
        wanted = confirmation.wanted(self.search, self.plan, most)
        trials = [trial.number for trial in wanted.finalists]
        names = {name for run in wanted.missing for name in (run.keys.vae.name, run.keys.evaluation.name)}
        lacking = {name for name in names if not self.store.find(name)}

        def needs(configurations: int, seeds: int) -> tuple[int, int]:
            first, few = trials[:configurations], wanted.seeds[:seeds]
            runs = [run for run in wanted.missing if run.trial in first and run.seed in few]
            autoencoders = {run.keys.vae.name for run in runs} & lacking
            return len(autoencoders), len({run.keys.evaluation.name for run in runs} & lacking)

        return needs
