"""A prepared dataset's manifest in which every number is 32, every text "32" and every list empty."""

from __future__ import annotations

from typing import Any

from latentsweep.datasets.manifest import MANIFEST_FORM


def made_up(form: Any = MANIFEST_FORM) -> Any:
    """A value of that form."""
    if isinstance(form, dict):
        return {key: made_up(inner) for key, inner in form.items()}
    return [] if isinstance(form, list) else form(32)
