"""The program itself: how it was called, and Ctrl-C in its first second. Imports the standard library only."""
