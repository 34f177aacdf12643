"""The page engine that report and ablation share. Imports metrics, lints and trainables only."""
