"""What images are worth: distances, similarities, copies, use downstream. Imports data, loop, config, errors."""
