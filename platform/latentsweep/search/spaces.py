"""Which space a sweep searches: the one of its dataset, or a user's file."""

from __future__ import annotations

import importlib
from pathlib import Path

import yaml

from latentsweep.configuration import plain_yaml
from trainables.errors import ConfigError
from trainables.space import SearchSpace


def search_space(dataset: str, path: Path | None) -> SearchSpace:
    """The space in a YAML file, or the one that comes for the dataset; kaggle's for a dataset of one's own."""
    if path is None:
        known = {"kaggle", "brats_flair", "brats_t1ce", "demo"}
        module = importlib.import_module(f"search_spaces.{dataset if dataset in known else 'kaggle'}")
        space: SearchSpace = module.SPACE
        return space
    try:
        return SearchSpace.from_plain(plain_yaml(path.read_text()))
    except OSError as error:
        raise ConfigError(f"the search space {path} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the search space {path} is not YAML") from error
