"""What images are worth: distances, similarities, copies of training slices. Imports loop, config, errors."""
