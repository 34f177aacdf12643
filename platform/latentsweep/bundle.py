"""The name under which registered models load a model's folder; the code is in ``stages/model_folder.py``."""

from latentsweep.stages.model_folder import sample_images

__all__ = ["sample_images"]
