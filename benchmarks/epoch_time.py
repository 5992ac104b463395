"""The time of an epoch: ours as shipped, a bare PyTorch loop, and the stock Lightning recipe, in one process.

    python benchmarks/epoch_time.py DIR [ROUNDS]

60,000 images of Fashion-MNIST's size (those of DIR, repeated), batch 32, latent 256, sigma 2, two threads. Epochs
of the three are interleaved; reported are medians and their ratios. Claims: ours (progress bar, metrics.csv, a
checkpoint every epoch; validation apart) takes at most 1.15x the time of the bare loop and is at least 2.5x faster
than the stock recipe; peak memory is at most 1.2 GB over that of the imports.
"""
