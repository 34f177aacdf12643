"""What both training loops share: devices, precision, seeds, checkpoints, the pace. Imports config, errors."""
