"""``python -m latentsweep …``: the same as the installed command ``latentsweep``."""

from latentsweep.program import interruption


def main() -> None:
    """The command line. What it imports takes most of a second, in which Ctrl-C may come."""
    interruption.end_quietly()
    from latentsweep.commands.app import app

    app()


if __name__ == "__main__":
    main()
