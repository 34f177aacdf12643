"""What installed packages add to a section of a recipe, and what becomes of packages that are broken."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from added_packages import add_package, entry_points_in

from trainables import plugins, recipes
from trainables.autoencoder.losses import pixel_loss
from trainables.config import Config, named_by, setting
from trainables.denoiser.losses import frequency_loss
from trainables.denoiser.unet import denoiser_of
from trainables.errors import ConfigError
from trainables.measures.evaluation import EvaluationConfig

SOUND = """
from dataclasses import dataclass
from trainables.config import Config, setting

@dataclass(frozen=True, kw_only=True)
class Huber(Config):
    '''Huber's loss.'''
    edge: float = setting(1.0, "where it becomes linear", low=0.1, high=5)
    rounds: int = setting(1, "how often", low=1)

    def check(self):
        from trainables.errors import ConfigError
        if self.rounds > 1 and self.edge > 2:
            raise ConfigError("Huber.edge must be at most 2 with rounds above 1; lower it")

    def __call__(self, prediction, target):
        return self.edge * (prediction - target)

def plain(prediction, target):
    return prediction - target

def count(images, real):
    return len(images)
"""
BROKEN = """
def few(prediction):
    return prediction

class Odd:
    pass

def taken(prediction, target):
    return target

from dataclasses import dataclass
from trainables.config import Config, setting

@dataclass(frozen=True, kw_only=True)
class Bare(Config):
    edge: float = 1.0

    def __call__(self, prediction, target):
        return target

@dataclass(frozen=True, kw_only=True)
class Beyond(Config):
    edge: float = setting(9.0, "too large by default", high=1)

    def __call__(self, prediction, target):
        return target

@dataclass(frozen=True, kw_only=True)
class Unknown(Config):
    edge: "Width" = setting(9.0, "of a type that is not there")

    def __call__(self, prediction, target):
        return target

word = "no function"
"""


def forget() -> None:
    for cached in (plugins.installed, plugins.broken, plugins._read):
        cached.cache_clear()


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose packages are the installed ones."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "_entry_points", lambda: entry_points_in(tmp_path))
    forget()
    yield tmp_path
    forget()


def section() -> type[Config]:
    """A section as recipes have them, with what is installed now."""

    @dataclass(frozen=True, kw_only=True)
    @plugins.with_plugins
    class Training(Config):
        loss: str = setting("mse", "the loss", choices=("mse", "l1"), plugins="losses")
        metrics: tuple[str, ...] = setting((), "further metrics", choices=(), plugins="metrics", later=True)
        steps: int = setting(5, "steps", low=1)

    return Training


def test_without_packages_a_section_is_what_it_was(packages: Path) -> None:
    training = section()()
    assert training.to_dict() == {"loss": "mse", "metrics": [], "steps": 5}
    assert training.identity() == {"loss": "mse", "steps": 5}
    assert training.chosen_plugins("loss") == {}


def test_a_plug_ins_fields_are_checked_and_searched_and_in_the_key_where_it_is_used(packages: Path) -> None:
    before = section()()
    add_package(packages, "sound-one", SOUND, {"losses": {"huber": "Huber", "plain": "plain"}})
    forget()
    training = section()
    assert training().identity() == before.identity()
    assert training().to_dict() == before.to_dict(), "a file without plug-ins is read where none is installed"
    assert training().replace(huber_edge=3).identity() == before.identity(), "it is not in use"

    used = training().replace(loss="huber", huber_edge=2)
    origin = {"huber": ["sound-one", "1.0"]}
    assert used.identity() == {"loss": "huber", "steps": 5, "loss from": origin, "huber_edge": 2.0, "huber_rounds": 1}
    assert training.from_dict(used.to_dict()) == used
    assert used.chosen_plugins("loss")["huber"](5, 2) == 6
    assert training(loss="plain").identity() == {
        "loss": "plain",
        "steps": 5,
        "loss from": {"plain": ["sound-one", "1.0"]},
    }
    for values, words in (
        ({"loss": "huber", "huber_edge": 9}, r"Training\.huber_edge must be at most 5"),
        ({"huber_rounds": "two"}, r"Training\.huber_rounds must be int"),
        ({"loss": "huber", "huber_edge": 3, "huber_rounds": 2}, r"Huber\.edge must be at most 2"),
        ({"huber_size": 1}, "unknown field 'huber_size'"),
    ):
        with pytest.raises(ConfigError, match=words):
            training.from_dict(values)


def test_another_version_of_the_package_is_another_key(packages: Path) -> None:
    add_package(packages, "sound-one", SOUND, {"losses": {"huber": "Huber"}}, version="1.1")
    assert section()(loss="huber").identity()["loss from"] == {"huber": ["sound-one", "1.1"]}


def test_a_field_of_several_values_takes_any_number_of_plug_ins(packages: Path) -> None:
    add_package(packages, "sound-one", SOUND, {"metrics": {"images_count": "count", "again": "count"}})
    training = section()(metrics=["again", "images_count"])
    assert {name: measure("abc", "") for name, measure in training.chosen_plugins("metrics").items()} == {
        "again": 3,
        "images_count": 3,
    }
    assert training.identity()["metrics"] == ["again", "images_count"]
    with pytest.raises(ConfigError, match=r"must be one of again, images_count; got 'kid'"):
        section()(metrics=("again", "kid"))


def test_a_plug_in_that_is_not_installed_is_named_in_one_line(packages: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"loss must be one of mse, l1; got 'huber'; .* install its package"
    ) as said:
        section().from_dict({"loss": "huber", "huber_edge": 2.0})
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("point", "target", "words"),
    [
        ("few", "few", r"must take \(prediction, target\), and takes \(prediction\)"),
        ("odd", "Odd", "must be a function or a trainables.config.Config"),
        ("word", "word", "must be a function or a trainables.config.Config"),
        ("bare", "Bare", r"its field 'edge' must be made by trainables\.config\.setting"),
        ("beyond", "Beyond", r"Beyond\.edge must be at most 1, got 9"),
        ("unknown", "Unknown", "name 'Width' is not defined"),
        ("gone", "gone", "AttributeError"),
        ("l1", "taken", r"used as Training\.loss: there is a built-in 'l1' already"),
        ("Upper-Case", "taken", "its name must be of small letters"),
    ],
)
def test_a_broken_plug_in_is_told_where_it_is_asked_for_and_nowhere_else(
    packages: Path, point: str, target: str, words: str
) -> None:
    add_package(packages, "broken-one", BROKEN, {"losses": {point: target}})
    training = section()
    assert training().identity() == {"loss": "mse", "steps": 5}
    (line,) = plugins.broken("losses").values()
    place = " as Training.loss" if point == "l1" else ""
    assert line.startswith(f"the plug-in '{point}' of broken-one can't be used{place}: ")
    assert re.search(words, line)
    assert "\n" not in line
    if point == "l1":
        assert training(loss="l1").chosen_plugins("loss") == {}, "the built-in loss keeps its name"
    else:
        with pytest.raises(ConfigError, match=words):
            training(loss=point)


def test_a_plug_in_whose_name_one_field_has_is_told_there_and_works_in_the_other(packages: Path) -> None:
    code = SOUND.replace("class Huber", "class L1")
    add_package(packages, "one-field", code, {"losses": {"l1": "L1", "steps": "L1"}})
    forget()

    @dataclass(frozen=True, kw_only=True)
    @plugins.with_plugins
    class Other(Config):
        loss: str = setting("plain", "the loss", choices=("plain", "steps"), plugins="losses")
        second: str = setting("none", "another", choices=("none", "steps"), plugins="losses")
        steps_edge: int = setting(1, "a field of that name")

    assert section()(loss="steps").chosen_plugins("loss")
    assert Other(loss="l1").chosen_plugins("loss")
    lines = [line.partition("; ")[0] for line in plugins.broken("losses").values()]
    said = "the plug-in '{}' of one-field can't be used as {}: {}"
    assert sorted(lines) == sorted(
        [
            said.format("l1", "Training.loss", "there is a built-in 'l1' already"),
            said.format("l1", "Other.second", "Other has a field 'l1_edge' already"),
            said.format("steps", "Other.loss", "there is a built-in 'steps' already"),
            said.format("steps", "Other.second", "there is a built-in 'steps' already"),
        ]
    )
    with pytest.raises(ConfigError, match=r"can't be used as Other\.second: Other has a field 'l1_edge' already"):
        Other(second="l1")


def test_a_metric_cannot_have_the_name_of_a_built_in_measure_or_of_its_partners(packages: Path) -> None:
    names = {"kid": "count", "near_copies": "count", "kid_se": "count", "samples": "count", "kid_like": "count"}
    add_package(packages, "sound-one", SOUND, {"metrics": names})
    forget()
    taken = EvaluationConfig.__dataclass_fields__["metrics"].metadata["taken"]

    @dataclass(frozen=True, kw_only=True)
    @plugins.with_plugins
    class Evaluation(Config):
        metrics: tuple[str, ...] = setting((), "further metrics", choices=(), plugins="metrics", taken=taken)

    assert list(Evaluation.__dataclass_fields__["metrics"].metadata["added"]) == ["kid_like"]
    with pytest.raises(ConfigError, match=r"as Evaluation\.metrics: there is a built-in 'kid' already; mend"):
        Evaluation(metrics=("kid",))


def test_a_plug_ins_field_that_changes_no_result_is_not_in_the_key(packages: Path) -> None:
    code = SOUND.replace('"how often", low=1', '"how often", identity=False')
    add_package(packages, "talking-one", code, {"losses": {"huber": "Huber"}})
    used = section()(loss="huber", huber_rounds=4)
    assert used.identity() == section()(loss="huber").identity()
    assert "huber_edge" in used.identity()
    assert used.to_dict()["huber_rounds"] == 4


def test_a_name_that_this_machine_does_not_know_is_refused_and_not_replaced(packages: Path) -> None:
    add_package(packages, "sound-one", SOUND, {"losses": {"huber": "Huber"}})
    training = section()(loss="huber")
    assert named_by(training, "loss", {"mse": 1})(5, 2) == 3
    assert named_by(section()(), "loss", {"mse": 1}) == 1
    for field, make in (
        ("denoiser", lambda config: denoiser_of(4, config)),
        ("frequency_loss", frequency_loss),
        ("reconstruction_loss", pixel_loss),
    ):
        foreign = SimpleNamespace(**{field: "huber"}, chosen_plugins=lambda field: {})
        with pytest.raises(ConfigError, match=f"{field} must be one of .*; got 'huber'; .* install its package here"):
            make(foreign)


def test_an_import_that_fails_or_ends_the_program_is_a_broken_plug_in(packages: Path) -> None:
    for number, code in enumerate(("import nothing_of_that_name", "raise SystemExit(3)", "1 / 0", "def (")):
        add_package(packages, f"bad-{number}", code, {"losses": {f"bad{number}": "loss"}})
    add_package(packages, "sound-one", SOUND, {"losses": {"huber": "Huber"}})
    assert list(plugins.installed("losses")) == ["huber"]
    kinds = [line.split(": ")[1] for line in plugins.broken("losses").values()]
    assert kinds == ["ModuleNotFoundError", "SystemExit", "ZeroDivisionError", "SyntaxError"]


def test_of_two_packages_with_one_name_the_first_counts_and_the_other_is_told(packages: Path) -> None:
    for name in ("one", "two"):
        add_package(packages, name, SOUND, {"losses": {"huber": "Huber"}})
    assert plugins.installed("losses")["huber"].package == "one"
    assert "of two can't be used: one has one of that name" in plugins.broken("losses")["huber"]
    assert section()(loss="huber").identity()["loss from"] == {"huber": ["one", "1.0"]}


def test_a_row_of_a_table_must_be_of_its_type_and_have_a_free_name(packages: Path) -> None:
    code = "from types import SimpleNamespace\nrow = SimpleNamespace(label='X')\nno = 3\n"
    add_package(packages, "rows", code, {"readers": {"fresh": "row", "nifti": "row", "number": "no"}})
    assert list(plugins.rows("readers", SimpleNamespace, {"nifti": 1})) == ["fresh"]
    assert "its name is that of a built-in one" in plugins.broken("readers")["nifti"]
    assert "it must be a SimpleNamespace, got a int" in plugins.broken("readers")["number"]


def test_a_recipe_knows_the_packages_of_the_plug_ins_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"diffusion.loss_function huber": ["sound-one", "1.1"], "evaluation.metrics count": ["other", "2"]}
    monkeypatch.setattr(recipes, "known_plugins", lambda: known)
    monkeypatch.setattr(
        recipes, "plugin_fields", lambda recipe: {"diffusion.loss_function": recipe, "evaluation.metrics": ("area",)}
    )
    assert recipes.packages_of("huber") == {"sound-one": "1.1"}  # type: ignore[arg-type]
    assert recipes.packages_of("mse") == {}  # type: ignore[arg-type]
