"""Raw scans → prepared slices: finding, reading, windowing, splitting and storing them without identifiers."""
