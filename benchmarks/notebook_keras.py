"""The notebook's model as Keras trains it: our own rendering, what the benchmarks compare with (extra `[bench]`).

    python -m benchmarks.notebook_keras DIR LATENT SIGMA SEED [EPOCHS [LIBRARY]]

DIR holds the four official `.gz`; LIBRARY is tf_keras (Keras 2, the reference; the default) or keras (Keras 3, whose
backend the variable KERAS_BACKEND chooses). Prints one line of JSON: the seconds and the training loss of each epoch,
the seconds of all of them together (compilation included, imports and loading not), BCE and PSNR on the test
images, clean and noisy, and the images a second that `predict` denoises.
"""

import gzip
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

keras: Any = importlib.import_module(sys.argv[6] if len(sys.argv) > 6 else "tf_keras")

Images = npt.NDArray[np.float32]


def read(path: Path) -> Images:
    """The images of a packed IDX file (N, 28, 28), in [0, 1]."""
    pixels = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16)
    return pixels.reshape(-1, 28, 28).astype(np.float32) / np.float32(255)


def notebook(latent: int, sigma: float) -> Any:
    """784 -> noise -> latent -> LeakyReLU(0.3) -> 784 -> sigmoid, compiled with Adam and binary cross-entropy."""
    rescaling, gaussian = keras.layers.Rescaling, keras.layers.GaussianNoise
    if keras.__name__ == "tf_keras":
        noise = [gaussian(sigma)]
    else:  # Keras 3 refuses a standard deviation above 1
        noise = [rescaling(1 / sigma), gaussian(1.0), rescaling(sigma)]
    layers = [
        keras.layers.Input((28, 28)),
        keras.layers.Flatten(),
        *noise,
        keras.layers.Dense(latent),
        keras.layers.LeakyReLU(0.3),
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


def scores(model: Any, inputs: Images, clean: Images) -> dict[str, float]:
    """BCE, and PSNR as the mean over images, in dB."""
    images = model.predict(inputs, batch_size=250, verbose=0)
    psnr = -10 * np.log10(np.mean((images - clean) ** 2, axis=(1, 2)))
    return {"bce": model.evaluate(inputs, clean, batch_size=250, verbose=0), "psnr": float(psnr.mean())}


def main(root: str, latent: int, sigma: float, seed: int, epochs: int = 100) -> None:
    keras.utils.set_random_seed(seed)
    train, test = (read(Path(root, f"{split}-images-idx3-ubyte.gz")) for split in ("train", "t10k"))
    model, clock = notebook(latent, sigma), Clock()
    start = time.perf_counter()
    history = model.fit(train, train, epochs=epochs, batch_size=32, verbose=0, callbacks=[clock])
    seconds = time.perf_counter() - start
    noisy = test + np.random.default_rng(0).normal(0, sigma, test.shape).astype(np.float32)
    result = {"seconds": seconds, "epochs": clock.seconds, "loss": history.history["loss"]}
    result |= {"reconstruction": scores(model, test, test), "denoising": scores(model, noisy, test)}
    start = time.perf_counter()
    model.predict(noisy, batch_size=250, verbose=0)
    print(json.dumps(result | {"predicted_per_second": len(noisy) / (time.perf_counter() - start)}))


if __name__ == "__main__":
    root, latent, sigma, seed, *epochs = sys.argv[1:6]
    main(root, int(latent), float(sigma), int(seed), *map(int, epochs))
