"""Train the denoising autoencoder: `python train.py noise.sigma=6 latent=192`; `--help` says more."""

from dae_lightning.cli.main import train

if __name__ == "__main__":
    train()
