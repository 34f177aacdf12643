"""File formats: what a file is, what reads it into volumes, and the limits of that."""
