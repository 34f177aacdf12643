"""The registered model: MLflow keeps this file beside the weights and runs it to load them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pandas import DataFrame


class Sampler(PythonModel):
    """Draws one image for each seed; the same seed gives the same image."""

    def load_context(self, context: PythonModelContext) -> None:
        self.folder = Path(context.artifacts["bundle"])

    def predict(
        self, context: PythonModelContext, model_input: DataFrame, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Images for the seeds in the column ``seed``: uint8, (N, H, W), 0 is black.

        A model of slices and lesion masks gives (N, 2, H, W): the image, and its mask, 255 for lesion.
        """
        from latentsweep.bundle import sample_images  # only here: a server that lists the model has no torch

        images: np.ndarray = sample_images(self.folder, [int(seed) for seed in model_input["seed"]])
        return images


set_model(Sampler())
