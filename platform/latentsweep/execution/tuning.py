"""Ray Tune's side of the search: a searcher and a scheduler that pass on what the Optuna study decides.

A *work* is what several trials share, such as an autoencoder; see :class:`~.shared_stages.Work`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from latentsweep.execution.shared_stages import Work
from latentsweep.metrics import RUNG
from latentsweep.search.pairing import PAIRING
from latentsweep.search.study import Search
from latentsweep.search.trials import Point
from latentsweep.stages.table import VERSIONS_OF
from trainables.errors import INFRASTRUCTURE, DiskError

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController


RETRIES = 4
"""How often a trial whose worker was lost is tried again, each time from its last checkpoint."""

HOPELESS = 8
"""Before any trial has begun, so many must fail with what they share, and twice as many as run at once, until no more
are asked for."""


class TrialListener(Protocol):
    """Its methods are called when something happens to a trial, given by its number in the study, or to a work."""

    def wanted(self) -> bool:
        """Whether anything may still begin."""

    def another(self) -> bool:
        """Whether another configuration may be asked for."""
        return True

    def asked(self, number: int, params: Mapping[str, Any]) -> None:
        """A configuration was asked for; it may wait for what it shares with others."""

    def started(self, number: int, params: Mapping[str, Any]) -> None:
        """A configuration begins: what it shares with others is there, or failed."""

    def heard(self, number: int, result: Mapping[str, Any]) -> None:
        """A trial reported."""

    def lost(self, number: int, error: str) -> tuple[str, str]:
        """Ray gave a trial up with ``error``. Returns the reason, and the last lines of the trial's log."""

    def ended(self, number: int) -> None:
        """A trial ended; the study knows how."""

    def shared(self, params: Mapping[str, Any]) -> Sequence[Work]:
        """What a configuration shares with others."""
        return ()

    def has(self, work: Work) -> bool:
        """Whether the results of a work are in the store."""
        return True

    def work_began(self, work: Work) -> None:
        """A work that a configuration waits for begins."""

    def work_heard(self, work: Work, result: Mapping[str, Any]) -> None:
        """A work reported."""

    def work_lost(self, work: Work, error: str) -> tuple[str, str]:
        """As :meth:`lost`, of a work."""
        return error, ""

    def work_ended(self, work: Work, failure: Mapping[str, str] | None) -> None:
        """A work ended: its results are in the store, or there is a failure, which is that of all who need it."""


class StudySearcher(Searcher):
    """Asks the study for configurations and tells it how they ended, until it has ``target`` run trials.

    A configuration that shares a work with others waits here until the work is done, and takes no slot meanwhile:
    Tune gets the work first, as a trial of its own kind. At most as many configurations wait or run as Tune runs
    at once, so that none is proposed long before it can begin.
    """

    def __init__(self, search: Search, target: float, listener: TrialListener, *, wide: bool = False) -> None:
        """``wide`` says that an autoencoder takes more of a card than a trial: while it waits for room, no trial
        begins, or it would wait until the last has ended."""
        super().__init__(metric=None, mode=None)
        self.search, self.target, self.listener, self.wide = search, target, listener, wide
        self.concurrent = 1
        self.numbers: dict[str, int] = {}
        """The trials of the study that run, by Tune's name."""
        self.works: dict[str, Work] = {}
        """The works that go on, by Tune's name."""
        self.unheard: set[str] = set()
        """Tune's names of those that haven't reported, and may still wait for room on a card."""
        self.waiting: dict[int, tuple[dict[str, Any], Sequence[Work]]] = {}
        """The parameters of the configurations that wait, by number, and what they share with others."""
        self.done: set[str] = set()
        """The names of works whose results are there."""
        self.failed: dict[str, Mapping[str, str]] = {}
        """Why a work has no results, by its name."""
        self.errors: dict[str, str] = {}
        """Ray's words on what was lost with its worker, by Tune's name."""
        self.unbegun: set[str] = set()
        """Tune's names of what was lost before it began, which Tune doesn't try again."""
        self.losses = Counter[str | int]()
        """How often a work, by its name, or a configuration, by its number, was lost so."""
        self.over = False
        """Whether Tune was told that there is no more: it then asks for nothing again."""
        self.no_disk = ""
        """What is wrong with a disk that trials write to; nothing begins any more."""
        self.begun = 0
        """How many configurations began as trials."""
        self.doomed = 0
        """How many failed with a work, and never began."""

    @property
    def given_up(self) -> str:
        """Why no more configurations are asked for, though more are planned; nothing where they are asked for.

        A work was lost with its worker, or works fail whatever is asked for.
        """
        for failure in self.failed.values():
            if failure["class"] == INFRASTRUCTURE:
                return f"what its trials share was lost: {failure['reason']}"
        if self.begun or self.waiting or self.doomed < max(HOPELESS, 2 * self.concurrent):
            return ""
        *_, last = self.failed.values()
        return f"none has begun, as what they share failed each time, at last with: {last['reason']}"

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Notes how many trials Tune runs at once; Tune itself holds to it."""
        self.concurrent = max_concurrent
        return False

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next configuration or work; ``FINISHED`` where there is none.

        None where all that are left wait, and also after one has failed, so that Tune hears of Ctrl-C in between.
        """
        while self.listener.wanted() and not self.no_disk:
            if self.wide and self.unheard:
                return None
            for number, (params, works) in self.waiting.items():
                lacking = [work for work in works if not self._is_done(work)]
                if not lacking:
                    del self.waiting[number]
                    self.numbers[trial_id] = number
                    self.begun += 1
                    self.listener.started(number, params)
                    return {"number": number, "params": params}
                for work in lacking:
                    if not self._goes_on(work):
                        self.works[trial_id] = work
                        self.unheard.add(trial_id)
                        self.listener.work_began(work)
                        return work.config
            if len(self.waiting) + len(self.numbers) >= self.concurrent:
                return None
            more = not self.given_up and self.listener.another()
            asked = self.search.ask(self.target) if more else None
            if asked is not None:
                number, params = asked
                self.listener.asked(number, params)
                self.waiting[number] = params, self.listener.shared(params)
                if self._fail_waiting():
                    return None
            elif self.waiting:
                return None
            else:
                break
        self.over = True
        return Searcher.FINISHED  # type: ignore[return-value]

    def _goes_on(self, work: Work) -> bool:
        return any(each.name == work.name for each in self.works.values())

    def _is_done(self, work: Work) -> bool:
        if work.name not in self.done and not self._goes_on(work) and self.listener.has(work):
            self.done.add(work.name)
        return work.name in self.done

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False, **kwargs: Any
    ) -> None:
        """Tells the study how a trial ended: scored, failed, pruned, or interrupted."""
        result = result or {}
        self.unheard.discard(trial_id)
        if work := self.works.pop(trial_id, None):
            if not (error and self._begins_again(trial_id, work.name)):
                self._end_work(work, result, self.errors.pop(trial_id, "") if error else None)
            return
        number = self.numbers.pop(trial_id, None)
        if number is None:
            return
        if error and self._begins_again(trial_id, number):
            params = dict(self.search.trial(number).params)
            self.waiting[number] = params, self.listener.shared(params)
            return
        if error:
            reason, log = self.listener.lost(number, self.errors.pop(trial_id, ""))
            self.search.fail(number, reason, INFRASTRUCTURE, log)
        elif result.get("class") == DiskError.kind:
            self.no_disk = result["reason"]  # the study may be on that disk: the trial is put back at the end
            return
        elif "class" in result:
            self.search.fail(number, result["reason"], result["class"], result["log"])
        elif "points" in result:
            points = [Point(point["params"], point["metrics"], point.get(PAIRING)) for point in result["points"]]
            said = {name: result[name] for name in ("keys", VERSIONS_OF) if name in result}
            self.search.tell(number, points, said)
        elif "pruned_at" in self.search.trial(number).user_attrs:
            self.search.prune(number, {})
        else:
            self.search.wait(number)
            return
        self.listener.ended(number)

    def _begins_again(self, trial_id: str, what: str | int) -> bool:
        """Whether a work, or a configuration, that was lost before it began is asked for once more, as often as Tune
        itself tries again what has begun."""
        if trial_id not in self.unbegun:
            return False
        self.losses[what] += 1
        return self.losses[what] <= RETRIES and not self.over

    def _end_work(self, work: Work, result: Mapping[str, Any], error: str | None) -> None:
        """A work was done, failed, or was lost with ``error``; one that was interrupted is neither."""
        if error is not None:
            reason, log = self.listener.work_lost(work, error)
            self.failed[work.name] = {"reason": reason, "class": INFRASTRUCTURE, "log": log}
        elif result.get("class") == DiskError.kind:
            self.no_disk = result["reason"]
            return
        elif "class" in result:
            self.failed[work.name] = {name: result[name] for name in ("reason", "class", "log")}
        elif "computed" in result:
            self.done.add(work.name)
        else:
            return
        self.listener.work_ended(work, self.failed.get(work.name))
        self._fail_waiting()

    def _fail_waiting(self) -> bool:
        """Ends the configurations that wait for a work that failed; returns whether there were any."""
        before = self.doomed
        for number, (params, works) in list(self.waiting.items()):
            failure = next((self.failed[work.name] for work in works if work.name in self.failed), None)
            if failure:
                del self.waiting[number]
                self.listener.started(number, params)
                self.search.fail(number, failure["reason"], failure["class"], failure["log"])
                self.listener.ended(number)
                self.doomed += 1
        return self.doomed > before

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: the study is on disk, and a sweep resumes from it, never from Ray's copy."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing, for the same reason."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, for the same reason."""


class StudyScheduler(FIFOScheduler):
    """Runs trials in the order they come. Stops those that the study prunes; ``search/study.py`` decides which."""

    def __init__(self, searcher: StudySearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.searcher = searcher

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as for :class:`StudySearcher`."""
        return {}

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """Passes Ray's error on: Tune tells the searcher only that there was one."""
        self.searcher.errors[trial.trial_id] = str(trial.get_error() or "")
        if trial.status == Trial.PENDING:  # its worker ended while it was given the trial
            self.searcher.unbegun.add(trial.trial_id)

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Passes a report on, rung by rung; returns whether the trial stops or goes on."""
        if work := self.searcher.works.get(trial.trial_id):
            self.searcher.unheard.discard(trial.trial_id)
            self.searcher.listener.work_heard(work, result)
            return TrialScheduler.CONTINUE
        number = trial.config["number"]
        self.searcher.listener.heard(number, result)
        for record in result.get("records", ()):
            rung = any(name.startswith(RUNG) for name in record)
            if rung and self.searcher.search.report(number, int(record["step"]), record):
                return TrialScheduler.STOP
        return TrialScheduler.CONTINUE


def run_trials(
    work: Callable[..., None],
    searcher: StudySearcher,
    *,
    threads: int,
    gpu_share: float,
    concurrent: int,
    folder: Path,
    vae_share: float = 0.0,
    **parameters: object,
) -> None:
    """Runs ``work(config, **parameters)`` in Ray Tune until the searcher has no more, ``concurrent`` at once.

    Each gets ``threads`` CPUs and ``gpu_share`` of a card (0: none), or ``vae_share`` where it trains an autoencoder.
    Tune's own files go to ``folder``.
    """

    def resources(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        share = vae_share if config.get("section") == "vae" else gpu_share
        return tune.PlacementGroupFactory([{"CPU": threads, **({"GPU": share} if share else {})}])

    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(work, **parameters), resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=StudyScheduler(searcher),
            num_samples=-1,
            max_concurrent_trials=concurrent,
            reuse_actors=True,
            trial_name_creator=_name_of,
            trial_dirname_creator=_name_of,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder.resolve()),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            verbose=0,
        ),
    )
    tuner.fit()


def _name_of(trial: Trial) -> str:
    """Tune's name for a trial of the study, or for a work."""
    return f"trial-{trial.config['number']}" if "number" in trial.config else f"shared-{trial.trial_id}"
