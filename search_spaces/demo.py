"""The built-in phantom: a whole sweep in minutes on two CPU cores.

    python cli.py sweep --dataset demo --trials 8

2 autoencoders and 8 trials of the ``small`` recipe at 64×64: 12 minutes on two busy cores.
"""

from trainables.space import Choice, SearchSpace

SPACE = SearchSpace(
    {
        "vae.latent_channels": Choice((4, 8)),
        "diffusion.frequency_weight": Choice((0.0, 0.1)),
        "diffusion.cutmix_probability": Choice((0.0, 0.25)),
        "sampling.early_stop_threshold": Choice((0.0, 0.05, 0.12)),
    },
    recipe="small",
)
