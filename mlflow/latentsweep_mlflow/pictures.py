"""Pictures by step, as MLflow's own pages show them: with a slider, and side by side for several runs.

MLflow's ``log_image`` gives each picture a random name, so that one that is sent again would be there twice. These
have the same names but for that part, which is derived from the picture.
"""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from pathlib import Path

from mlflow import MlflowClient
from PIL import Image

FOLDER = "images"
PREVIEW = 256
"""Pixels of the longer side of what MLflow shows before it is clicked at."""
_TAG = "mlflow.loggedImages"


def send_picture(client: MlflowClient, run_id: str, path: Path, name: str, *, step: int, time: int) -> None:
    """Store the PNG at ``path`` as what ``name`` looked like at ``step``; ``time`` is in ms since the epoch."""
    content = path.read_bytes()
    mark = uuid.UUID(hashlib.sha256(content).hexdigest()[:32])
    stem = f"{name.replace('/', '~')}+step+{step}+timestamp+{time}+{mark}"
    with tempfile.TemporaryDirectory() as scratch, Image.open(path) as picture:
        (Path(scratch) / f"{stem}.png").write_bytes(content)
        picture.thumbnail((PREVIEW, PREVIEW))
        picture.convert("RGB").save(Path(scratch) / f"{stem}+compressed.webp")
        client.log_artifacts(run_id, scratch, FOLDER)
    client.set_tag(run_id, _TAG, True)
