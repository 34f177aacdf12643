"""Called by PyTorch at the end of its import, in every process of the environment (``environment.ENTRY_POINT``)."""

from __future__ import annotations


def install() -> None:
    """Puts the stand-ins into PyTorch; the null card itself is there already, for the loader took it for NVIDIA's."""
    from rehearsal import standins

    standins.install()
