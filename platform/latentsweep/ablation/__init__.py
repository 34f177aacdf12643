"""Ablation studies: which choice makes the difference, told from the noise between seeds. Imports pages, search, stages, lints."""
