"""Raw scans → prepared slices: find, read, window, split and store them without identifiers. Imports storage."""
