"""``python -m latentsweep …``: the same as the installed command ``latentsweep``."""

from latentsweep import interruption


def main() -> None:
    """The command line. What it imports takes most of a second, in which Ctrl-C may come."""
    interruption.end_quietly()
    from latentsweep.cli import app

    app()


if __name__ == "__main__":
    main()
