"""The denoiser: diffusion, network, what it is told, training and sampling. Imports loop, data, config, errors."""
