"""Where things lie: the home, the stage store, its mirror on a bucket. Imports trainables' config and loop."""
