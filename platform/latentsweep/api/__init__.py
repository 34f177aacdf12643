"""What ``import latentsweep`` offers in Python: the same code that the commands call. Heavy imports wait."""
