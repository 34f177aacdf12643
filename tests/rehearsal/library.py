"""Builds the null card: ``card/*.c``, and a refusal for every other CUDA function that torch and torchvision call.

The one library lies in its folder under the name of each of NVIDIA's that they ask the loader for.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

SOURCES = Path(__file__).with_name("card")
NAME = "libnullcard.so"
TOOLS = {"gcc": "gcc", "nm": "binutils", "readelf": "binutils"}
"""The programs that a build needs, and Debian's packages of them."""

ASKED_FOR_BY_NAME = ("libcuda.so.1", "libnvidia-ml.so.1")
"""Libraries that are opened as the program runs, the second by Ray and by ``torch.cuda.device_count``."""

NVIDIAS = re.compile(r"lib(?:cu\w*|nccl|nvrtc|nvshmem\w*|nvJitLink)\.so\.\d+")
FUNCTION = re.compile(r"(?:__cuda|cu|nccl|pnccl|nvrtc|nvshmem)\w+")
TEXT = re.compile(r"\w*Get(?:Last)?(?:Error|Status)(?:String|Name)|\w+GetLastError")
"""Functions that return text."""


def build(libraries: Iterable[Path], headers: Path, folder: Path) -> Path:
    """Builds the null card for the shared ``libraries`` into ``folder``, and returns it.

    ``headers`` holds NVIDIA's ``cuda_runtime_api.h``. Raises ``subprocess.CalledProcessError`` where a tool fails.
    """
    libraries = list(libraries)
    folder.mkdir(parents=True, exist_ok=True)
    refusals = folder / "refusals.c"
    refusals.write_text(
        "int null_card_lacks(const char *name, int *said);\n" + "\n".join(map(refusal, sorted(called(libraries))))
    )
    # The loader wants the versions that it is asked for to exist; a function without a version then does for any.
    versions = folder / "versions"
    versions.write_text("".join(f"{version} {{}};\n" for version in sorted(versions_asked_for(libraries))))
    library = folder / NAME
    said(
        *("gcc", "-shared", "-fPIC", "-O1", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"),
        *("-Wno-unused-parameter", "-Wno-builtin-declaration-mismatch", f"-I{SOURCES}", f"-isystem{headers}"),
        *(f"-Wl,--version-script={versions}", f"-Wl,-soname,{NAME}", "-o", library),
        *(*sorted(SOURCES.glob("*.c")), refusals, "-pthread"),
    )
    for name in {*needed(libraries), *ASKED_FOR_BY_NAME}:
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(NAME)
    return library


def needed(libraries: Iterable[Path]) -> set[str]:
    """NVIDIA's libraries that the loader looks for, by their names."""
    listed = said("readelf", "--dynamic", *libraries)
    return set(filter(NVIDIAS.fullmatch, re.findall(r"NEEDED.*\[(.+)\]", listed)))


def versions_asked_for(libraries: Iterable[Path]) -> set[str]:
    """The versions that functions of NVIDIA's libraries are asked for in."""
    asked, ours = set(), False
    for line in said("readelf", "--version-info", "--wide", *libraries).splitlines():
        if match := re.search(r"File: (\S+)", line):
            ours = NVIDIAS.fullmatch(match[1]) is not None
        elif ours and (match := re.search(r"Name: (\S+)", line)):
            asked.add(match[1])
    return asked


def called(libraries: Iterable[Path]) -> set[str]:
    """The CUDA functions that the libraries call, by their names."""
    listed = said("nm", "--dynamic", "--undefined-only", "--without-symbol-versions", *libraries)
    words = (line.split() for line in listed.splitlines())
    return {line[-1] for line in words if line and FUNCTION.fullmatch(line[-1])}


def refusal(name: str) -> str:
    """A function in C that says its name once and fails; where a source defines it too, that one is taken."""
    if TEXT.fullmatch(name):
        return f'__attribute__((weak)) const char *{name}(void) {{ return "{name}: not a part of the null card"; }}'
    return f'__attribute__((weak)) int {name}(void) {{ static int said; return null_card_lacks("{name}", &said); }}'


def said(*command: str | Path) -> str:
    """What a command wrote to its standard output."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
