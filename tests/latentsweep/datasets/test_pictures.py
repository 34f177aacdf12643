"""Pictures of every kind are the same picture; what holds several is refused."""

import struct

import numpy as np
import pytest
from PIL import Image

from latentsweep.datasets.formats.pictures import read_picture
from latentsweep.datasets.formats.readers import format_of
from latentsweep.datasets.formats.reject import Reject

SEVERAL = "several pages or frames"


def grey(head):
    return (head()[..., 3] // 4).astype(np.uint8)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".png", {}),
        (".tif", {}),
        (".tiff", {"compression": "tiff_lzw"}),
        (".tif", {"compression": "tiff_adobe_deflate"}),
        (".webp", {"lossless": True}),
        (".bmp", {}),
        (".gif", {}),
    ],
)
@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_a_picture_is_the_same_in_every_format(tmp_path, head, suffix, options, mode):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(grey(head)).convert(mode).save(path, **options)
    assert format_of(path.rename(tmp_path / "a")) == "picture"
    np.testing.assert_array_equal(read_picture(tmp_path / "a"), grey(head))


@pytest.mark.parametrize(("order", "white_is_zero"), [("<", False), (">", False), ("<", True)])
def test_a_16_bit_tiff_keeps_all_its_bits_and_its_white(tmp_path, head, order, white_is_zero):
    (tmp_path / "a.tif").write_bytes(tiff_16(head()[..., 3], order, white_is_zero))
    wanted = head()[..., 3].astype(np.float32)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif"), 65535 - wanted if white_is_zero else wanted)


@pytest.mark.parametrize("suffix", [".tif", ".gif", ".webp", ".png"])
def test_a_picture_of_several_pages_or_frames_is_refused(tmp_path, head, suffix):
    pages = [Image.fromarray(grey(head) // (n + 1)) for n in range(3)]
    pages[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=pages[1:])
    with pytest.raises(Reject, match=SEVERAL) as caught:
        read_picture(tmp_path / f"a{suffix}")
    assert not caught.value.broken


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_channel_of_a_picture_is_the_values_of_its_colour(tmp_path, head, channel):
    colours = np.stack([grey(head), grey(head) // 2, grey(head) // 3], axis=-1)
    Image.fromarray(colours).save(tmp_path / "a.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif", channel), colours[..., channel])


def test_a_jpeg_with_its_own_preview_is_one_picture(tmp_path, head):
    preview = Image.fromarray(grey(head)).resize((8, 8))
    Image.fromarray(grey(head)).save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview])
    assert read_picture(tmp_path / "a.jpg").shape == grey(head).shape


def test_a_tiff_of_too_large_tiles_is_refused(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff_16(np.zeros((40, 40), np.uint16), "<", False, tile=2**15))
    with pytest.raises(Reject, match="4096×4096"):
        read_picture(tmp_path / "a.tif")


def tiff_16(pixels, order, white_is_zero, tile=None):
    """A TIFF of one strip, or of one tile of that side: uint16 (rows, columns)."""
    place = 8
    data = pixels.astype(f"{order}u2").tobytes()
    tags = {256: pixels.shape[1], 257: pixels.shape[0], 258: 16, 259: 1, 262: 0 if white_is_zero else 1}
    tags |= {277: 1} | (
        {322: tile, 323: tile, 324: place, 325: len(data)}
        if tile
        else {273: place, 278: pixels.shape[0], 279: len(data)}
    )
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, place + len(data))
    return head + data + struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0)
