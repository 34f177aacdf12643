"""``python -m latentsweep …``: the same as the installed command ``latentsweep``."""

from latentsweep.cli import app

if __name__ == "__main__":
    app()
