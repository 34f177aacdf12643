"""The environment of the rehearsal: a CUDA build of PyTorch over the project's own packages, and the null card.

It is a virtual environment in a folder of its own. Of NVIDIA's packages it needs the headers of one. All else is read
from the project's ``.venv``, which comes after this PyTorch on the path.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rehearsal import library

CHECKOUT = Path(__file__).parents[2]
TORCH, TORCHVISION = "torch==2.14.1", "torchvision==0.29.1"
HEADERS = "nvidia-cuda-runtime==13.0.96"
"""Of the CUDA that this torch was built with."""

ENTRY_POINT = "[torch.backends]\nnull_card = rehearsal.standins:install\n"
"""PyTorch calls what is registered so at the end of its import, in Ray's workers as well."""

NOT_TO_BE_HAD = ("No matching distribution", "connection", "Max retries", "timed out", "name resolution", "SSLError")
"""What pip says where a package isn't there or the index can't be reached, rather than anything else."""

LONGEST = 60
"""Characters of a path below which Unix sockets can be bound."""


class UnavailableError(Exception):
    """This machine can't have what the environment is made of."""


@dataclass(frozen=True)
class Environment:
    """The rehearsal's folder, which holds nothing but it."""

    folder: Path

    @property
    def venv(self) -> Path:
        """The virtual environment."""
        return self.folder / "venv"

    @property
    def packages(self) -> Path:
        """Where its packages lie."""
        return Path(sysconfig.get_path("purelib", vars={"base": str(self.venv)}))

    @property
    def headers(self) -> Path:
        """Where NVIDIA's headers lie."""
        return self.folder / "headers"

    @property
    def card(self) -> Path:
        """Where the null card lies."""
        return self.folder / "card"

    def emptied(self, *name: str) -> Path:
        """A folder for what a part of the rehearsal leaves behind, without what it left the last time."""
        folder = self.folder.joinpath(*name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    @property
    def temporary(self) -> Path:
        """Where its processes put what they need for a while."""
        folder = self.folder / "tmp"
        return folder if len(str(folder)) <= LONGEST else Path(tempfile.gettempdir())

    def variables(self) -> dict[str, str]:
        """The environment variables of a process that is to find the null card and this checkout."""
        roots = (CHECKOUT, CHECKOUT / "platform", CHECKOUT / "mlflow")
        ours = ("CUDA_", "PYTHON", "LATENTSWEEP_", "MLFLOW_", "NULL_CARD_", "PYTORCH_", "RAY_", "TORCH_")
        return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
            "PATH": f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "VIRTUAL_ENV": str(self.venv),
            "LD_LIBRARY_PATH": str(self.card),
            "PYTHONPATH": os.pathsep.join(map(str, roots)),
            "USE_PYTORCH_KERNEL_CACHE": "0",  # a real card would later load what this one compiled
            "PYTHONPYCACHEPREFIX": str(self.folder / "bytecode"),
            "TMPDIR": str(self.temporary),
        }

    def make(self) -> str:
        """Makes what is missing or was made of something else, and says what it did; nothing temporary is left.

        Raises :class:`UnavailableError`, and ``subprocess.CalledProcessError`` where a tool fails.
        """
        self.emptied("tmp")
        for tool, package in library.TOOLS.items():
            if not shutil.which(tool):
                raise UnavailableError(f"{tool} is missing; on Debian: apt-get install {package}")
        versions = [platform.python_version(), TORCH, TORCHVISION, HEADERS]
        installed = self._once("packages", versions, self._install)
        self._join()
        sources = [Path(library.__file__), *sorted(library.SOURCES.rglob("*.[ch]"))]
        digests = [hashlib.sha256(source.read_bytes()).hexdigest() for source in sources]
        built = self._once("card", [*versions, *digests], self._build)
        return f"packages {'installed' if installed else 'kept'}, null card {'built' if built else 'kept'}"

    def _once(self, what: str, made_of: list[str], make: Callable[[], None]) -> bool:
        """Calls ``make`` unless it has made ``what`` of the same before; whether it did."""
        stamp = self.folder / f"{what}.json"
        if stamp.exists() and json.loads(stamp.read_text()) == made_of:
            return False
        stamp.unlink(missing_ok=True)
        make()
        stamp.write_text(json.dumps(made_of))
        return True

    def _install(self) -> None:
        for folder in (self.venv, self.headers):
            shutil.rmtree(folder, ignore_errors=True)
        run(sys.executable, "-m", "venv", "--without-pip", self.venv)
        # Without what they depend on: NVIDIA's libraries are 4 GB, and the null card stands for them.
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", self.venv / "bin" / "python")
        plain = ("install", "--quiet", "--no-deps", "--no-compile")
        try:
            run(*pip, *plain, TORCH, TORCHVISION)
            run(*pip, *plain, "--target", self.headers, HEADERS)
        except subprocess.CalledProcessError as error:
            if any(words in error.stderr for words in NOT_TO_BE_HAD):
                reason = error.stderr.strip().splitlines()[-1]
                raise UnavailableError(f"{TORCH} can't be had here: {reason}") from error
            raise
        if not (self.packages / "torch" / "lib" / "libtorch_cuda.so").exists():
            raise UnavailableError(f"{TORCH} is a build without CUDA here")

    def _join(self) -> None:
        """Puts the project's packages behind those of the environment, and has PyTorch call :mod:`standins`."""
        behind = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        (self.packages / "project.pth").write_text(f"{behind}{CHECKOUT / 'tests'}\n")
        registered = self.packages / "null_card-1.dist-info"
        registered.mkdir(exist_ok=True)
        (registered / "METADATA").write_text("Metadata-Version: 2.1\nName: null-card\nVersion: 1\n")
        (registered / "entry_points.txt").write_text(ENTRY_POINT)

    def _build(self) -> None:
        headers = next(self.headers.rglob("cuda_runtime_api.h")).parent
        torch, torchvision = self.packages / "torch" / "lib", self.packages / "torchvision"
        library.build([*torch.glob("*.so"), torchvision / "_C_stable.so"], headers, self.card)


def run(*command: str | Path) -> None:
    """Runs a command; raises ``subprocess.CalledProcessError``, with what it said, where it fails."""
    subprocess.run(command, check=True, capture_output=True, text=True)
