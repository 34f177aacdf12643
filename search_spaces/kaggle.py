"""RSNA-MICCAI FLAIR: the paper's four questions. A dataset that has no file of its own is searched over these, too.

    python cli.py sweep --dataset kaggle

The default recipe is ``improved`` at 128×128: 2 autoencoders, then 20 trials of 20,000 steps, a few hours each
on a 6 GB card. On two CPU cores use ``--recipe small``: minutes a trial at 64×64.
Ask ``--dry-run`` for the plan on your machine.
"""

from trainables.space import Choice, SearchSpace

SPACE = SearchSpace(
    {
        "vae.latent_channels": Choice((4, 8)),
        "diffusion.frequency_weight": Choice((0.0, 0.05, 0.1, 0.3)),
        "diffusion.cutmix_probability": Choice((0.0, 0.25, 0.5)),
        "sampling.early_stop_threshold": Choice((0.0, 0.01, 0.02, 0.05, 0.1)),
    },
    recipe="improved",
)
