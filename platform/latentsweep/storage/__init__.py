"""Where things are kept: the home, the stage store, its mirror in a bucket. Imports trainables' config and loop."""
