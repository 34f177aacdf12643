"""The commands: they read options, call jobs and print. May import every room, heavy ones when a command runs."""
