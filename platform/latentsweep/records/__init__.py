"""What is recorded of runs, and what must not be said. Imports ablation, lints, search, stages, storage."""
