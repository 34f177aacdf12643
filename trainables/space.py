"""Search spaces: which fields of a recipe are searched, over what, and which stage each of them touches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.config import as_scalar
from trainables.errors import ConfigError
from trainables.recipes import Recipe

Value = bool | int | float | str

THRESHOLD = "sampling.early_stop_threshold"
"""The dimension of which one sampling pass measures all values."""

EMA_LENGTH = "sampling.ema_length"
"""The dimension that chooses among the averages of one training."""


AFTER_STEPS = "sampling.after_steps"
NO_STEP = "no one knows before a training at which steps it keeps weights"


@dataclass(frozen=True, init=False)
class Choice:
    """One of a list of values; a value that is a list itself is held as its text, ``(16, 32)`` as ``"[16, 32]"``."""

    values: tuple[Value, ...]

    def __init__(self, values: Iterable[Value | Sequence[Value]]) -> None:
        object.__setattr__(self, "values", tuple(as_scalar(value) for value in values))

    def examples(self) -> tuple[Value, ...]:
        """The values to try on a configuration."""
        return self.values

    def nearest(self, value: Value) -> Value | None:
        """The value itself, or of numbers the nearest one; None where there is neither."""
        if any(value == each and type(value) is type(each) for each in self.values):
            return value
        if not all(_is_number(each) for each in (value, *self.values)):
            return None
        return min(self.values, key=lambda each: abs(float(each) - float(value)))

    def to_plain(self) -> Any:
        """The form in YAML."""
        return list(self.values)


@dataclass(frozen=True)
class Range:
    """A number between ``low`` and ``high``, on a log scale if asked, whole if both ends are."""

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant, after :meth:`SearchSpace.with_field_types`."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def examples(self) -> tuple[Value, ...]:
        """Both ends."""
        return (self.low, self.high)

    def nearest(self, value: Value) -> Value | None:
        """The number itself, or the end that is nearer; None for what is no number."""
        if not _is_number(value):
            return None
        inside = min(max(float(value), self.low), self.high)
        return round(inside) if self.whole else inside

    def to_plain(self) -> Any:
        """The form in YAML."""
        return {"low": self.low, "high": self.high, "log": self.log}


Dimension = Choice | Range


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


COMBINATIONS = 2000
"""The most combinations of listed values that are tried on the recipe before a search starts."""


@dataclass(frozen=True)
class SearchSpace:
    """Dimensions by the recipe's field that they change; ``recipe`` is the name of the default recipe."""

    dimensions: Mapping[str, Dimension]
    recipe: str = "improved"

    def check(self, recipe: Recipe) -> None:
        """Raises :class:`ConfigError` for an unknown field, an empty range, or a value that ``recipe`` refuses."""
        if not self.dimensions:
            raise ConfigError("a search space needs at least one dimension, got none")
        for field, dimension in self.dimensions.items():
            check_dimension(field, dimension)
            for value in dimension.examples():
                _try_values(recipe, {field: value}, f"{field} = {value!r}")
        lists = {field: d.values for field, d in self.dimensions.items() if isinstance(d, Choice)}
        for values in itertools.islice(itertools.product(*lists.values()), COMBINATIONS):
            together = dict(zip(lists, values, strict=True))
            _try_values(recipe, together, str(together))

    def with_field_types(self, recipe: Recipe) -> SearchSpace:
        """The same with ranges of floats where the field is one: 0 to 1 then means all numbers between."""
        dimensions: dict[str, Dimension] = {}
        for field, dimension in self.dimensions.items():
            section, _, name = field.partition(".")
            value = getattr(getattr(recipe, section), name)
            if isinstance(dimension, Range) and isinstance(value, float):
                dimension = Range(float(dimension.low), float(dimension.high), dimension.log)
            dimensions[field] = dimension
        return SearchSpace(dimensions, self.recipe)

    def without(self, field: str) -> SearchSpace:
        """The same without the dimension of a field, if there is one."""
        return SearchSpace({name: d for name, d in self.dimensions.items() if name != field}, self.recipe)

    def touching(self, *stages: str) -> dict[str, Dimension]:
        """The dimensions that change one of these stages, named as in :func:`stage_of`."""
        return {field: d for field, d in self.dimensions.items() if stage_of(field) in stages}

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The early-stop thresholds that are searched, ascending."""
        dimension = self.dimensions.get(THRESHOLD)
        return tuple(sorted(float(value) for value in dimension.values)) if isinstance(dimension, Choice) else ()

    @property
    def size(self) -> float:
        """How many configurations there are; infinite with a continuous range."""
        return math.prod(
            len(d.values) if isinstance(d, Choice) else (int(d.high) - int(d.low) + 1 if d.whole else math.inf)
            for d in self.dimensions.values()
        )

    def vae_variants(self, recipe: Recipe) -> Iterator[Recipe]:
        """The recipe under every combination of the dimensions that change the autoencoder."""
        dimensions = self.touching("data", "vae")
        grids = [d.values for d in dimensions.values() if isinstance(d, Choice)]
        for values in itertools.product(*grids):
            yield recipe.replace(**dict(zip(dimensions, values, strict=True)))

    def to_plain(self) -> dict[str, Any]:
        """The form in YAML."""
        return {"recipe": self.recipe, "dimensions": {f: d.to_plain() for f, d in self.dimensions.items()}}

    @classmethod
    def from_plain(cls, plain: Any) -> SearchSpace:
        """The inverse of :meth:`to_plain`; raises :class:`ConfigError` for anything else."""
        if not isinstance(plain, Mapping) or not isinstance(plain.get("dimensions"), Mapping):
            raise ConfigError("a search space is a mapping with 'dimensions', each a list of values or low and high")
        unknown = set(plain) - {"recipe", "dimensions"}
        if unknown:
            raise ConfigError(f"search space: unknown entry {sorted(unknown)[0]!r}; known: recipe, dimensions")
        dimensions = {str(field): _dimension(str(field), value) for field, value in plain["dimensions"].items()}
        return cls(dimensions, str(plain.get("recipe", "improved")))


def stage_of(field: str) -> str:
    """The section of a field, and so the first stage that it touches."""
    return field.split(".")[0]


def check_dimension(field: str, dimension: Dimension) -> None:
    """Raises :class:`ConfigError` where a dimension breaks a rule that needs no recipe."""
    if stage_of(field) in ("evaluation", "downstream"):
        raise ConfigError(f"search space: {field} can't be searched, since scores measured differently don't compare")
    if field == AFTER_STEPS:
        raise ConfigError(f"search space: {field} can't be searched, since {NO_STEP}; leave it out")
    if field in ("data.fold", "data.folds"):
        raise ConfigError(
            f"search space: {field} can't be searched, since scores on other patients don't compare; leave it out, "
            "and set it by --set or by ablate --folds"
        )
    if isinstance(dimension, Choice):
        if not dimension.values:
            raise ConfigError(f"search space: {field} has an empty list of values; name at least one")
        if len(set(dimension.values)) < len(dimension.values):
            raise ConfigError(f"search space: {field} names a value twice: {list(dimension.values)}")
        return
    if stage_of(field) in ("data", "vae"):
        raise ConfigError(f"search space: {field} needs a list of values, since each is an autoencoder of its own")
    if field == THRESHOLD:
        raise ConfigError(f"search space: {field} needs a list of values, since one sampling pass measures them all")
    if field == EMA_LENGTH:
        raise ConfigError(f"search space: {field} needs a list of values, since a training keeps a few averages only")
    if not dimension.low < dimension.high:
        raise ConfigError(f"search space: {field} has an empty range: low {dimension.low:g}, high {dimension.high:g}")
    if dimension.log and dimension.low <= 0:
        raise ConfigError(f"search space: {field} on a log scale needs low above 0, got {dimension.low:g}")


def _try_values(recipe: Recipe, values: Mapping[str, Value], what: str) -> None:
    try:
        recipe.replace(**values)
    except ConfigError as error:
        raise ConfigError(f"search space: {what} is refused: {error}") from error


def _dimension(field: str, plain: Any) -> Dimension:
    if isinstance(plain, list) and all(_listable(value) for value in plain):
        return Choice(plain)
    if isinstance(plain, Mapping) and {"low", "high"} <= set(plain) <= {"low", "high", "log"}:
        ends = plain["low"], plain["high"]
        if all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
            return Range(*ends, log=bool(plain.get("log", False)))
    raise ConfigError(f"search space: {field} must be a list of values or a mapping of low and high, got {plain!r}")


def _listable(value: Any) -> bool:
    members = value if isinstance(value, list) else [value]
    return all(isinstance(member, bool | int | float | str) for member in members)
