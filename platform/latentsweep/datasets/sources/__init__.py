"""A source folder: its files, how they are laid out as scans, of which contrast, and whose each is."""
