"""The autoencoder: its network, losses, discriminator, training. Imports loop, measures, data, config."""
