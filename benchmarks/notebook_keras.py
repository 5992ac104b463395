"""The notebook's model as Keras 2 trains it: our own rendering, what the benchmarks compare with (extra `[bench]`).

    python -m benchmarks.notebook_keras DIR LATENT SIGMA SEED EPOCHS [IMAGES]

Prints one line of JSON: the seconds of each epoch, all of them together (compilation included, imports and loading
not), and the denoising BCE on the test images. With IMAGES, those of DIR are repeated until there are so many.
tensorflow and torch each keep their own threads waiting: they are timed in processes of their own.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from dae_lightning.data.idx import IdxFolder


def notebook(latent: int, sigma: float) -> Any:
    """784 -> noise -> latent -> LeakyReLU(0.3) -> 784 -> sigmoid, compiled with Adam and binary cross-entropy."""
    layers = [
        keras.layers.Flatten(input_shape=(28, 28)),
        keras.layers.GaussianNoise(sigma),
        keras.layers.Dense(latent),
        keras.layers.LeakyReLU(),
        keras.layers.Dense(784, activation="sigmoid"),
        keras.layers.Reshape((28, 28)),
    ]
    model = keras.Sequential(layers)
    model.compile(optimizer="adam", loss="binary_crossentropy")
    return model


class Clock(keras.callbacks.Callback):  # type: ignore[misc]
    """The seconds of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, *_: Any) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, *_: Any) -> None:
        self.seconds.append(time.perf_counter() - self._start)


def main(root: str, latent: int, sigma: float, seed: int, epochs: int, images: int | None = None) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(2)
    keras.utils.set_random_seed(seed)
    train, test = (split.images.numpy().astype(np.float32) / 255 for split in IdxFolder(root).load()[:2])
    train = np.resize(train, (images or len(train), 28, 28))  # repeats them
    model, clock = notebook(latent, sigma), Clock()
    start = time.perf_counter()
    model.fit(train, train, epochs=epochs, batch_size=32, verbose=0, callbacks=[clock])
    seconds = time.perf_counter() - start
    noisy = test + np.random.default_rng(0).normal(0, sigma, test.shape).astype(np.float32)
    bce = model.evaluate(noisy, test, batch_size=250, verbose=0)
    print(json.dumps({"seconds": seconds, "epochs": clock.seconds, "bce": bce}))


if __name__ == "__main__":
    root, latent, sigma, *counts = sys.argv[1:]
    main(root, int(latent), float(sigma), *map(int, counts))
