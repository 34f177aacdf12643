"""Which slices a run sees, and slices as tensors. Imports config, errors."""
