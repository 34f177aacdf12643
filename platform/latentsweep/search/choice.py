"""How a search chooses: its objectives, its sampler, its pruner."""

from __future__ import annotations

from dataclasses import dataclass

from latentsweep.metrics import KID, OBJECTIVES
from latentsweep.search.pruning import PRUNERS
from trainables.config import Config, setting
from trainables.errors import ConfigError
from trainables.plugins import installed


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Config):
    """How configurations are chosen and pruned."""

    objectives: tuple[str, ...] = setting(
        (KID.objective,), "what is minimised; two give a Pareto front", choices=None
    )
    sampler: str = setting(
        "tpe",
        "how configurations are proposed; by gp, a Gaussian process that weighs what autoencoders cost, and with two "
        "objectives by tpe in its place",
        choices=("tpe", "gp", "random"),
    )
    pruner: str = setting(
        "median",
        "which trials end early; by gp, those that can hardly be the best, from the second trial on, and with two "
        "objectives none",
        choices=tuple(PRUNERS),
    )
    startup: int = setting(
        4, "trials that are finished before any is pruned, and drawn at random before TPE begins", low=1
    )
    guarded: bool = setting(True, "whether what copies its training slices or collapses can't win", later=True)
    most_seconds: float = setting(
        0.0, "seconds that drawing an image may take for a configuration to win; 0 for any", low=0.0, later=True
    )
    warm_start: int = setting(
        3,
        "how many of the best configurations of the home's earlier sweeps are tried first, at most a quarter of the "
        "trials, if none was tried yet; a random search tries none",
        low=0,
        identity=False,
    )

    def check(self) -> None:
        if not 1 <= len(self.objectives) <= 2 or len(set(self.objectives)) < len(self.objectives):
            raise ConfigError(f"--objective takes one name or two different ones, got {', '.join(self.objectives)}")
        for name in self.plugins:
            if name not in installed("metrics"):
                known = ", ".join([*OBJECTIVES, *installed("metrics")])
                raise ConfigError(
                    f"--objective must be among {known}; got {name!r}; if that is a plug-in's metric, install the "
                    "plug-in"
                )
        if self.most_seconds and not self.guarded:
            raise ConfigError(
                f"--most-seconds {self.most_seconds:g} is a guard, and --despite-guards refuses nothing; "
                "leave one of them out"
            )

    @property
    def plugins(self) -> list[str]:
        """The objectives that are metrics of plug-ins."""
        return [name for name in self.objectives if name not in OBJECTIVES]
