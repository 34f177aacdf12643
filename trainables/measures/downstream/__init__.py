"""What generated slices are good for: segmentation networks, trained on real ones, on generated ones and on both."""
