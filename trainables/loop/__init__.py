"""What both training loops share: devices, precision, seeds, checkpoints, layers. Imports config, errors."""
