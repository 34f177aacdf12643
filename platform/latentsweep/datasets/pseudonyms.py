"""Pseudonyms of subjects and volumes: keyed hashes. The key never leaves the home."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from trainables.errors import StoreError

KEY_FILE = "pseudonym.key"
KEY_BYTES = 32
DIGITS = 12


class Pseudonyms:
    """Names things by HMAC-SHA256 under one key: ``subject("a")`` is the same 12 hex digits every time.

    ``namespace`` keeps equal folder names of unrelated datasets apart; datasets of the same patients share one.
    """

    def __init__(self, key: bytes, namespace: str) -> None:
        self._key = key
        self._namespace = namespace

    def subject(self, identifier: str) -> str:
        """The pseudonym of a subject's identifier."""
        return self._digest("subject", identifier)[:DIGITS]

    def volume(self, identifier: str) -> str:
        """The pseudonym of a volume's identifier."""
        return self._digest("volume", identifier)[:DIGITS]

    def seal(self, text: str) -> str:
        """A full-length keyed hash, for recognising ``text`` again without storing it."""
        return self._digest("seal", text)

    def _digest(self, kind: str, text: str) -> str:
        message = "\0".join((kind, self._namespace, text)).encode("utf-8", "surrogateescape")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()


def home_key(home: Path) -> bytes:
    """The home's key, made at random on first use (mode 0600); raises :class:`StoreError`.

    Two processes that need it first agree on one: the key appears whole, under its name, once.
    """
    path = home / KEY_FILE
    try:
        if not path.exists():
            home.mkdir(parents=True, exist_ok=True)
            draft = home / f".{KEY_FILE}.{os.getpid()}.{secrets.token_hex(4)}"
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links
                draft.replace(path)
            draft.unlink(missing_ok=True)
        key = path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"the home folder must be writable: {home}: {error.strerror}; choose another --home"
        ) from None
    if len(key) != KEY_BYTES:
        raise StoreError(
            f"{path} must hold {KEY_BYTES} bytes, got {len(key)}: restore it, or move it away for a new one"
        )
    return key
