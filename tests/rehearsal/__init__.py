"""The rehearsal: the product's CUDA code over a card that computes nothing (``make rehearse``; README.md)."""
