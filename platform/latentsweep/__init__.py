"""latentsweep: which choices make slice-by-slice latent diffusion work on your brain MRI?"""

__version__ = "0.1.0"
