"""The page of ``data prepare --check``."""

from __future__ import annotations

import base64
import datetime
from pathlib import Path

from latentsweep.datasets.check import Check
from latentsweep.pages.templates import PACKAGE, environment
from trainables.errors import DataError
from trainables.loop.files import write_whole


def write_check(check: Check, path: Path) -> Path:
    """Writes what a preparation would do as one HTML file; returns its path, raises :class:`DataError`."""
    settings = check.settings
    facts = [
        ("would be read", f"{len(check.volumes)} volumes of {check.patients} patients"),
        ("slices", sum(volume.slices for volume in check.volumes)),
        ("contrast", check.contrast),
        ("a patient is", settings["subject"]),
        ("orientation", settings["orientation"]),
        ("intensity", settings["intensity"]),
        ("size", f"{settings['size']}×{settings['size']} pixels, {settings['resize']}"),
        ("mask", settings.get("mask", "none was found beside a scan")),
    ]
    text = (
        environment(PACKAGE)
        .get_template("check.html.j2")
        .render(
            c=check,
            facts=facts,
            written=datetime.date.today().isoformat(),
            pictured=[(volume, base64.b64encode(volume.picture).decode("ascii")) for volume in check.volumes],
        )
    )
    try:
        write_whole(path, text)
    except OSError as error:
        raise DataError(f"--check must name a file that can be written: {path}: {error.strerror}") from None
    return path
