"""The autoencoder: its network, losses, discriminator, training. Imports loop, measures, layers, images, config."""
