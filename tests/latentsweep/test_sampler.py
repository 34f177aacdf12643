"""A model's folder draws by itself: its ``sampler.py`` needs torch, numpy and safetensors, and gives equal bits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from PIL import Image

from latentsweep.configuration import CONFIG, Configuration
from latentsweep.stages import sampler, single_file
from latentsweep.stages.model_folder import SAMPLER, TrainedModel, read_model, write_sampler
from latentsweep.stages.sampler import DENOISER, GUIDE, SCALING, SETTINGS, VAE, labels_of, open_model
from trainables.autoencoder.vae import Autoencoder
from trainables.denoiser.samplers import SAMPLERS
from trainables.denoiser.unet import UNet
from trainables.errors import ConfigError, DataError
from trainables.loop.checkpoint import save_tensors
from trainables.loop.settings import Execution
from trainables.recipes import SMOKE, Recipe

SMALL = SMOKE.replace(
    **{
        "data.image_size": 32,
        "vae.widths": (8, 16),
        "diffusion.widths": (8, 16),
        "diffusion.attention_levels": (1,),
        "diffusion.embedding_channels": 16,
        "sampling.steps": 4,
        "sampling.precision": "fp32",
    }
)
PLAIN = SMALL.replace(**{"diffusion.prediction": "epsilon", "diffusion.whiten": False, "sampling.eta": 1.0})
STOPPING = SMALL.replace(
    **{
        "vae.attention": True,
        "vae.patch_size": 2,
        "diffusion.schedule": "linear",
        "sampling.sampler": "dpmpp_2m",
        "sampling.early_stop_rule": "x0_change",
        "sampling.early_stop_threshold": 10.0,
    }
)
GUIDED = SMALL.replace(
    **{
        "diffusion.prediction": "x0",
        "diffusion.noise_label": "log_sigma",
        "diffusion.zero_terminal_snr": True,
        "diffusion.position_condition": True,
        "diffusion.condition_dropout": 0.3,
        "diffusion.self_conditioning": 0.5,
        "diffusion.patch_size": 2,
        "diffusion.augmentation_probability": 0.2,
        "diffusion.cutmix_probability": 0.3,
        "diffusion.guide_share": 0.5,
        "sampling.guidance": 2.0,
        "sampling.autoguidance": 1.5,
        "sampling.guidance_high": 3.0,
    }
)
JOINT = SMALL.replace(
    **{
        "data.mask": True,
        "diffusion.lesion_condition": True,
        "diffusion.position_condition": True,
        "diffusion.label_condition": ("grade", "age"),
        "sampling.guidance": 1.5,
    }
)
MODELS: Mapping[str, Recipe] = {"plain": PLAIN, "stopping": STOPPING, "guided": GUIDED, "joint": JOINT}

ALONE = """
import runpy, sys
here, *folders = sys.argv[1:]
sys.path.append(here)
for folder in folders:
    sys.argv = ["sampler.py", "--seed", "3", "--count", "3", "--to", f"{folder}/images", "--device", "cpu"]
    try:
        runpy.run_path(f"{folder}/sampler.py", run_name="__main__")
    except SystemExit as ended:
        assert not ended.code, ended.code
for package in ("latentsweep", "trainables", "PIL", "yaml", "scipy"):
    try:
        __import__(package)
    except ModuleNotFoundError:
        continue
    raise AssertionError(f"{package} can be imported")
"""
"""Runs the samplers of folders with nothing of what the project needs but what lies in the folder named first."""


def installed(folder: Path, *packages: str) -> Path:
    """A folder that leads to these packages and to what they need, and to nothing else that is installed here."""
    folder.mkdir()
    waiting, seen = list(packages), set[str]()
    while waiting:
        name = waiting.pop()
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        if name not in seen:
            seen.add(name)
            asked = [Requirement(line) for line in package.requires or []]
            waiting += [each.name for each in asked if each.marker is None or each.marker.evaluate({"extra": ""})]
            for top in {file.parts[0] for file in package.files or [] if file.parts[0] not in ("..", "__pycache__")}:
                (folder / top).symlink_to(Path(str(package.locate_file(top))))
    return folder


def random(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights that make a network do something in each of its layers."""
    numbers = torch.Generator().manual_seed(1)
    return {
        name: value if not value.is_floating_point() else value + 0.1 * torch.randn(value.shape, generator=numbers)
        for name, value in network.state_dict().items()
    }


def model_folder(folder: Path, recipe: Recipe) -> Path:
    """The folder of a model of that recipe that was trained on nothing."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    save_tensors(folder / VAE, random(Autoencoder(recipe.vae, recipe.data.mask)))
    for file in (DENOISER, *([GUIDE] if recipe.sampling.autoguidance != 1 else [])):
        save_tensors(folder / file, random(UNet(recipe.vae.latent_channels, recipe.diffusion)))
    channels = recipe.vae.latent_channels
    scaling = {"mean": torch.linspace(-1, 1, channels), "deviation": torch.linspace(0.5, 2, channels)}
    told = {
        "positions": torch.linspace(0, 1, 5),
        "lesions": torch.arange(5.0) % 3,
        "categories": torch.stack([torch.arange(5.0) % 2, torch.arange(5.0) // 3], dim=1),
    }
    save_tensors(folder / SCALING, scaling | told, {"grade": ["HGG", "LGG"], "age": ["young", "old"]})
    configuration = Configuration("tiny", 0, recipe)
    configuration.write(folder / CONFIG)
    write_sampler(folder, configuration)
    return folder


@pytest.mark.slow
def test_it_draws_the_same_bits_without_the_platform(tmp_path: Path) -> None:
    folders = [model_folder(tmp_path / name, recipe) for name, recipe in MODELS.items()]
    here = installed(tmp_path / "packages", "torch", "numpy", "safetensors")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ALONE, str(here), *map(str, folders)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("3 slices in") == len(folders)
    for folder in folders:
        drawn = [np.asarray(Image.open(folder / "images" / f"seed-00000{seed}.png")) for seed in (3, 4, 5)]
        expected, masks = read_model(folder).drawn([3, 4, 5], Execution())
        assert np.array_equal(np.stack(drawn), expected), folder.name
        files = sorted((folder / "images" / "masks").glob("seed-*.png"))
        assert len(files) == (3 if masks is not None else 0)
        if masks is not None:
            assert np.array_equal(np.stack([np.asarray(Image.open(file)) for file in files]), masks)
        assert expected.std() > 5
        assert not np.array_equal(expected[0], expected[1])


def test_it_draws_the_label_that_is_asked_for(tmp_path: Path) -> None:
    model = open_model(model_folder(tmp_path / "model", JOINT))
    both = [model.draw([3], labels={"grade": grade}) for grade in ("HGG", "LGG")]
    assert not np.array_equal(*both)
    assert model.draw([3, 4], lesion="none", labels={"grade": "LGG", "age": "old"}).shape == (2, 2, 32, 32)
    for lesion, labels, words in (
        ("", {"sex": "F"}, r"label must be one that the model was told \(grade, age\), got sex"),
        ("", {"grade": "III"}, "grade must be one of HGG, LGG, got III"),
        ("small", {"grade": "HGG", "age": "young"}, "none has lesion small, grade HGG, age young; ask for less"),
    ):
        with pytest.raises(ConfigError, match=words):
            model.draw([3], lesion=lesion, labels=labels)
    with pytest.raises(ConfigError, match=r"told \(none\), got grade"):
        open_model(model_folder(tmp_path / "plain", PLAIN)).draw([3], labels={"grade": "HGG"})


def test_labels_are_typed_as_label_and_category() -> None:
    assert labels_of(["grade=HGG", "age=40-59"]) == {"grade": "HGG", "age": "40-59"}
    for texts in (["grade"], ["=HGG"], ["grade="]):
        with pytest.raises(ConfigError, match="--label must be label=category"):
            labels_of(texts)
    with pytest.raises(ConfigError, match="--label takes each label once"):
        labels_of(["grade=HGG", "grade=LGG"])


def test_the_settings_that_it_reads_mean_what_the_recipe_means(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", GUIDED)
    said = open_model(folder).recipe
    assert said.latent_size == GUIDED.latent_size
    assert said.diffusion.tells_cutmix == GUIDED.diffusion.tells_cutmix
    assert tuple(said.diffusion.widths) == GUIDED.diffusion.widths
    assert json.loads((folder / SETTINGS).read_text())["library_name"] == "latentsweep"
    assert str(tmp_path) not in (folder / SETTINGS).read_text()


def test_it_does_not_draw_by_other_settings_than_the_file_that_people_edit(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", PLAIN)
    path = folder / CONFIG
    path.write_text(path.read_text().replace("steps: 4", "steps: 3", 1))
    with pytest.raises(DataError, match="edited since"):
        open_model(folder)
    path.unlink()
    assert open_model(folder).draw([0]).shape == (1, 32, 32)


@pytest.mark.parametrize(("what", "own"), [("sampler", "ddim"), ("denoiser", "unet")])
def test_what_is_not_built_in_is_refused_in_one_line(tmp_path: Path, what: str, own: str) -> None:
    folder = model_folder(tmp_path / "model", PLAIN)
    path = folder / SETTINGS
    path.write_text(path.read_text().replace(f'"{what}": "{own}"', f'"{what}": "theirs"'))
    with pytest.raises(DataError, match=f"the {what} theirs, which comes from another package"):
        open_model(folder)


def test_it_draws_where_the_system_does_not_tell_the_cores_of_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = model_folder(tmp_path / "model", PLAIN)
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr(sampler, "__file__", str(folder / SAMPLER))
    monkeypatch.setattr(
        sys, "argv", ["sampler.py", "--count", "1", "--to", str(tmp_path / "images"), "--device", "cpu"]
    )
    assert sampler.main() == 0
    assert capsys.readouterr().out == f"1 slices in {tmp_path / 'images'}\n"


def test_a_folder_that_lacks_weights_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", PLAIN)
    (folder / DENOISER).unlink()
    with pytest.raises(DataError, match=f"has no {DENOISER}"):
        open_model(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"recipe": 3}', "\udcff"])
def test_damaged_settings_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    folder = model_folder(tmp_path / "model", PLAIN)
    (folder / SETTINGS).write_text(text, errors="surrogateescape")
    with pytest.raises(DataError, match=f"{SETTINGS} is damaged, it lacks .*: put back what it was"):
        open_model(folder)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_that_torch_does_not_take_is_refused_in_one_line(tmp_path: Path, seed: int) -> None:
    model = open_model(model_folder(tmp_path / "model", PLAIN))
    with pytest.raises(ConfigError, match=f"below 2⁶⁴, got {seed}; take"):
        model.draw([0, seed])
    assert model.draw([2**64 - 1]).shape == (1, 32, 32)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--device", "x"), "got x: leave it out"),
        (("--device", "meta"), "got meta: leave it out"),
        (("--device", "cuda:99"), "got cuda:99: leave it out"),
        (("--seed", str(2**64)), "error: a seed must be"),
        (("--to", SCALING), SCALING),
        (("--lesion", "small"), "error: this model was not told of lesions"),
    ],
)
def test_what_the_command_cannot_do_is_one_line_with_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str], said: str
) -> None:
    folder = model_folder(tmp_path / "model", PLAIN)
    monkeypatch.setattr(sampler, "__file__", str(folder / SAMPLER))
    monkeypatch.setattr("sys.argv", [SAMPLER, "--count", "1", "--device", "cpu", *words])
    monkeypatch.chdir(folder)
    threads = torch.get_num_threads()
    try:
        with pytest.raises(SystemExit) as ended:
            sys.exit(sampler.run_command())
    finally:
        torch.set_num_threads(threads)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_the_platform_and_the_file_share_one_class() -> None:
    assert issubclass(TrainedModel, sampler.Model)


def test_the_file_holds_what_is_reached_and_no_more(tmp_path: Path) -> None:
    text = (model_folder(tmp_path / "model", PLAIN) / SAMPLER).read_text()
    assert all(f"def {each.__name__}(" in text for each in SAMPLERS.values())
    assert "import latentsweep" not in text
    assert "from trainables" not in text
    assert "def train" not in text
    compile(text, SAMPLER, "exec")


def test_a_name_that_would_mean_two_things_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pair"
    package.mkdir()
    for name, text in {
        "__init__": "",
        "first": "def size():\n    return 1\n",
        "second": "from pair import first\n\ndef size():\n    return first.size()\n",
        "third": "from pair.first import size as extent\n\ndef area() -> int:\n    return extent() ** 2\n",
    }.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(single_file, "PACKAGES", ("pair",))
    with pytest.raises(NotImplementedError, match=r"size means two things: pair\.\w+ and pair\.\w+"):
        single_file.single_file("pair.second")
    found: dict[str, object] = {}
    exec(single_file.single_file("pair.third") + "result = area()", found)
    assert found["result"] == 1
