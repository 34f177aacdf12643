"""Seeds that derive from their purpose: a run that was killed and continued draws the same numbers."""

from __future__ import annotations

import hashlib


def derived_seed(seed: int, *purpose: int | str) -> int:
    """A 63-bit seed from ``seed`` and what it is for, such as ``("order", epoch)``."""
    text = ":".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
