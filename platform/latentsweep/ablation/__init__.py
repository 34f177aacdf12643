"""Ablation studies: which choice makes the difference, told from the noise.

Imports pages, search, stages, lints.
"""
