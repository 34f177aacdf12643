"""Why the system refuses to write a file, and what mends it, in words."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path

DENIED = {errno.EACCES, errno.EPERM}
ROOM = "make room there"
_REMEDIES = {
    **dict.fromkeys(
        DENIED,
        "let all who use it be of one group that may write in its folders (chgrp -R, chmod -R g+rwX, chmod g+s on "
        "folders) and work under umask 002, see docs/cluster.md",
    ),
    errno.EROFS: "mount it to be written",
}


def reason(number: int, path: Path | None = None) -> str:
    """What the system says of an error number; where it denies access, also whose the file or folder is."""
    said = os.strerror(number)
    if number not in DENIED or path is None:
        return said
    for place in (path, *path.parents):  # what could not be made lies in a folder that is somebody's
        try:
            found = place.lstat()
        except OSError:
            continue
        mode, owner, user = stat.filemode(found.st_mode), _user(found.st_uid), _user(os.geteuid())
        return f"{said}: {place} belongs to {owner}, with the mode {mode}, and you are {user}"
    return said


def remedy(number: int | None) -> str:
    """What mends it; that is room on the disk, where nothing else is known."""
    return _REMEDIES.get(number or 0, ROOM)


def why(error: OSError) -> str:
    """Both of them, for the middle of a sentence: ``reason; remedy``."""
    number = error.errno or errno.EIO
    return f"{reason(number, Path(error.filename) if error.filename else None)}; {remedy(number)}"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
