"""A folder of images for ``evaluate --images``: what is read, and what is refused in one line."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import fuzzing
import numpy as np
import pytest
from PIL import Image

from latentsweep.jobs import image_folder
from latentsweep.jobs.image_folder import read_images
from trainables.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two grey pictures of 32×32 pixels, and the overview that is none of them."""
    place = tmp_path / "images"
    place.mkdir()
    for name, level in (("a.png", 10), ("b.jpg", 200), ("grid.png", 0)):
        Image.new("L", (32, 32), level).save(place / name)
    return place


def refused(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_images(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_pictures_come_by_name_in_grey(folder: Path) -> None:
    Image.new("RGB", (32, 32), (255, 0, 0)).save(folder / "c.png")
    images = read_images(folder)
    assert images.shape == (3, 32, 32)
    assert images.dtype == np.uint8
    assert images[:, 0, 0].tolist() == [10, 200, 76]


def test_a_picture_that_claims_too_many_pixels_is_not_decoded(folder: Path) -> None:
    header = fuzzing.png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0))
    body = fuzzing.png_chunk(b"IDAT", zlib.compress(bytes(1000))) + fuzzing.png_chunk(b"IEND", b"")
    (folder / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)
    assert "4096×4096" in refused(folder)


def test_pictures_that_are_too_many_together_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "MAX_SET_BYTES", 2 * 32 * 32 - 1)
    assert "2,048" in refused(folder)


def test_a_link_out_of_the_folder_or_in_a_loop_is_refused(folder: Path, tmp_path: Path) -> None:
    Image.new("L", (32, 32)).save(tmp_path / "outside.png")
    (folder / "c.png").symlink_to(tmp_path / "outside.png")
    assert "link out of the folder" in refused(folder)
    (folder / "c.png").unlink()
    (folder / "c.png").symlink_to(folder / "c.png")
    assert "c.png" in refused(folder)
    (folder / "c.png").unlink()
    (folder / "c.png").symlink_to(folder / "a.png")
    assert len(read_images(folder)) == 3


def test_a_pipe_among_the_pictures_does_not_hang(folder: Path) -> None:
    os.mkfifo(folder / "c.png")
    assert "not a whole picture" in refused(folder)


def test_damaged_pictures_are_one_line_each(folder: Path) -> None:
    valid, read = (folder / "a.png").read_bytes(), 0
    for number in range(100):
        copy = fuzzing.mutated(valid, np.random.default_rng([9, number]), fuzzing.within_png)
        (folder / "a.png").write_bytes(copy)
        try:
            read += len(read_images(folder))
        except DataError as error:
            said = str(error)
            assert "\n" not in said
    assert read < 200


def test_a_picture_is_the_same_however_it_is_stored(folder: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    grey[:4], grey[5] = 0, 255
    alpha = Image.fromarray(np.where(grey == 0, 255, grey).astype(np.uint8)).convert("LA")
    alpha.putalpha(Image.fromarray(np.where(grey == 0, 0, 255).astype(np.uint8)))
    turned = Image.Exif()
    turned[274] = 6  # to be shown turned by a quarter to the right
    stored = {
        "16": Image.fromarray(grey.astype(np.uint16) * 257),
        "colour": Image.fromarray(grey).convert("RGB"),
        "palette": Image.fromarray(grey).convert("P"),
        "white where it is transparent": alpha,
    }
    for path in folder.iterdir():
        path.unlink()
    for name, picture in stored.items():
        picture.save(folder / f"{name}.png")
    Image.fromarray(np.rot90(grey)).save(folder / "turned.png", exif=turned)
    for image in read_images(folder):
        np.testing.assert_array_equal(image, grey)


def test_16_bits_that_hold_fewer_are_refused(folder: Path) -> None:
    Image.fromarray(np.full((32, 32), 4095, np.uint16)).save(folder / "c.png")
    assert "16-bit pictures must use their range, 0 to 65535, got at most 4095" in refused(folder)
