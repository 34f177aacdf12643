"""Which space a sweep searches: a user's YAML file, or the file of ``search_spaces`` named as the dataset."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import yaml

import search_spaces
from latentsweep.configuration import plain_yaml
from trainables.errors import ConfigError
from trainables.space import SearchSpace

DEFAULT = "kaggle"
"""The dataset whose space serves for a dataset that has no file in ``search_spaces``."""


def search_space(dataset: str, path: Path | None) -> SearchSpace:
    """The space in the YAML file ``path``; without one the dataset's own.

    Raises :class:`ConfigError` where the file cannot be read or holds no search space.
    """
    if path is None:
        return own_space(dataset)
    try:
        return SearchSpace.from_plain(plain_yaml(path.read_text()))
    except OSError as error:
        raise ConfigError(f"the search space {path} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the search space {path} is not YAML") from error


def own_space(dataset: str) -> SearchSpace:
    """``SPACE`` of the file ``search_spaces/DATASET.py``, or kaggle's where there is no such file.

    Raises :class:`ConfigError` where the file defines no ``SPACE``.
    """
    files = {module.name for module in pkgutil.iter_modules(search_spaces.__path__)}
    name = dataset if dataset in files else DEFAULT
    space = getattr(importlib.import_module(f"search_spaces.{name}"), "SPACE", None)
    if not isinstance(space, SearchSpace):
        raise ConfigError(f"search_spaces/{name}.py must define SPACE, a SearchSpace as in {DEFAULT}.py")
    return space
