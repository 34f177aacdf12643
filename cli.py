"""``python cli.py …``: the same as the installed command ``latentsweep``."""

from latentsweep.__main__ import main

if __name__ == "__main__":
    main()
