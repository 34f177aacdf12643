"""Pictures by step, as MLflow's own pages show them: with a slider, and side by side for several runs.

MLflow's ``log_image`` gives each picture a random name, so that one that is sent again would be there twice. These
have the same names but for that part, which is derived from the picture.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import uuid
from pathlib import Path

from mlflow import MlflowClient
from PIL import Image

from latentsweep_mlflow.delivery import RefusedError

FOLDER = "images"
PREVIEW = 256
"""Pixels of the longer side of what MLflow shows before it is clicked at."""
_TAG = "mlflow.loggedImages"


def send_picture(client: MlflowClient, run_id: str, path: Path, name: str, *, step: int, time: int) -> None:
    """Store the PNG at ``path`` as what ``name`` looked like at ``step``; ``time`` is in ms since the epoch.

    Raises :class:`RefusedError` for a file that is no whole picture.
    """
    content, preview = _read(path)
    mark = uuid.UUID(hashlib.sha256(content).hexdigest()[:32])
    stem = f"{name.replace('/', '~')}+step+{step}+timestamp+{time}+{mark}"
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / f"{stem}.png").write_bytes(content)
        preview.save(Path(scratch) / f"{stem}+compressed.webp")
        client.log_artifacts(run_id, scratch, FOLDER)
    client.set_tag(run_id, _TAG, True)


def _read(path: Path) -> tuple[bytes, Image.Image]:
    """The bytes of a PNG, and the picture that stands for it."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            picture.thumbnail((PREVIEW, PREVIEW))
            return content, picture.convert("RGB")
    except Exception as error:  # what is wrong with a file, Pillow says by many errors
        raise RefusedError(f"it can't be read as a picture ({type(error).__name__})") from error
