"""The commands read options, call jobs and print. They may import all rooms but manual, heavy ones when they run."""
