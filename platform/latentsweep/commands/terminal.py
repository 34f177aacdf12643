"""Long lines on a terminal: broken between words and not within them."""

from __future__ import annotations

import shutil
import sys
import textwrap


def fold(text: str, indent: int = 2) -> str:
    """The lines of a text, no wider than the terminal; what goes on in a further line begins at column ``indent``.

    Where the output is no terminal they stay whole, for whoever searches in them. Lines that are commands to copy
    must not go through this.
    """
    if not sys.stdout.isatty():
        return text
    wrapper = textwrap.TextWrapper(
        shutil.get_terminal_size().columns,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join("\n".join(wrapper.wrap(line)) for line in text.splitlines())
