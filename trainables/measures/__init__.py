"""What images are worth: distances, similarities, copies of training slices, their use downstream. Imports data, loop."""
