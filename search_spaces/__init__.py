"""Search spaces as data: one file for each dataset. The file ``ixi.py`` is the space of the dataset ``ixi``."""
