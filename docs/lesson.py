# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A denoising autoencoder, from the first line to the last
#
# A well-known notebook teaches the denoising autoencoder in Keras, on pictures of clothes. This lesson tells its
# story again in PyTorch Lightning, in our own words, and then goes on where the notebook stops: it never shows its
# model a noisy picture.
#
# You need to know a little Python and what a neural network is. All cells together take under four minutes on two CPU
# cores. Run them from top to bottom; do the exercises when you come to them. Solutions are at the end.
#
# | the notebook | this lesson |
# | --- | --- |
# | introduction | [What is a denoising autoencoder?](#what-is-a-denoising-autoencoder) |
# | imports, loading Fashion-MNIST, division by 255 | [Setting up](#setting-up), [The data](#the-data) |
# | a noise layer of one's own | [The noise layer](#the-noise-layer) |
# | the model class, and an instance of it: `input_dim`, `latent_dim`, `noise_mean`, `noise_stddev` | [The model](#the-model): `input_shape`, `latent`, `noise=GaussianNoise(mean, sigma)` |
# | `compile` and `fit`, 100 epochs | [Training](#training) |
# | "how good has the training been?" | [The loss curve](#the-loss-curve) |
# | training images, clean in | [Images it has seen, and images it has not](#images-it-has-seen-and-images-it-has-not) |
# | test images, clean in | the same |
# | a second model, with a lot of noise | [A lot of noise](#a-lot-of-noise) |
# | conclusion | [What to take home](#what-to-take-home) |
# | not in the notebook | [Noisy in](#noisy-in), [Floors and ceilings](#floors-and-ceilings), [The wrong noise](#the-wrong-noise), [One model for every level](#one-model-for-every-level) |

# %% [markdown]
# ## What is a denoising autoencoder?
#
# An *autoencoder* squeezes a picture into a short list of numbers, its *code*, and draws the picture again from the
# code alone. Nobody has to label anything: the picture is its own target. But there is a lazy solution. If the code
# is large enough, the network may simply copy.
#
# A *denoising* autoencoder (Vincent et al. 2008) takes that solution away. We spoil the picture with noise before the
# network sees it, and still ask for the clean one:
#
# $$ \text{clean} \;\to\; \text{noisy} \;\to\; \text{code} \;\to\; \text{estimate}, \qquad
# \text{loss} = \text{how far the estimate is from the clean picture} $$
#
# Copying no longer helps, since the noise would be copied too. To do well, the network has to know which pictures are
# likely and which are not.

# %% [markdown]
# ## Setting up
#
# Where the package is missing, this cell installs it, from the folder above this file. It names the torch that you
# have, so that pip leaves it alone, and complains if the two do not go together.

# %%
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec

PACKAGE = ".."  # the folder that holds pyproject.toml
if find_spec("dae_lightning") is None:
    kept = [f"{name}=={version(name)}" for name in ("torch", "torchvision") if find_spec(name)]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", PACKAGE, *kept], check=True)

# %%
import io
import logging
import math
import os
import warnings

import lightning
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from dae_lightning import (
    DenoisingAutoencoder,
    GaussianNoise,
    GaussianRange,
    Glyphs,
    IdxFolder,
    StopAfterStep,
    TrainingBar,
)
from dae_lightning.evaluation.estimators import mean_image, posterior_mean, score, wiener
from dae_lightning.figures import Curve, curve_figure, examples_figure, loss_figure, print_png
from dae_lightning.model.metrics import entropy
from dae_lightning.model.noise import corrupt_each

torch.manual_seed(0)
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # no remarks about accelerators
warnings.filterwarnings("ignore", ".*(does not have many workers|LeafSpec).*")


# %%
def show(name, figure):
    """Show a figure below its cell; outside a notebook, write it to lesson_NAME.png."""
    if "get_ipython" in globals():
        from IPython.display import Image, display

        buffer = io.BytesIO()
        print_png(figure, buffer)
        display(Image(buffer.getvalue()))
    else:
        with open(f"lesson_{name}.png", "wb") as file:
            print_png(figure, file)


# %% [markdown]
# ## The data
#
# By default the pictures are letters, A to J, drawn from the fonts that matplotlib brings along: no download. To
# follow the notebook more closely, put the four files of Fashion-MNIST into a folder and set `LESSON_DATA` to its
# path before you start. Everything below works with either. The numbers in the text are those of the letters.
#
# A picture has 28 x 28 pixels, stored as bytes. We divide by 255: from here on a pixel is a number from 0 (black) to
# 1 (white). There are labels too. We do not need them.

# %%
folder = os.environ.get("LESSON_DATA")
source = IdxFolder(folder) if folder else Glyphs(train_size=8500, test_size=1000, seed=0)
splits = source.load()
stored = splits.train.images[:-500][:8000]  # bytes
train = stored / 255
val = splits.train.images[-500:] / 255
test = splits.test.images[:1000] / 255
train.shape, val.shape, test.shape

# %%
show("data", examples_figure({"training": train[:10], "validation": val[:10], "test": test[:10]}, "clean pictures"))

# %% [markdown]
# **Look at** how much the pictures have in common: dark corners, something bright in the middle, smooth strokes. All
# of that is knowledge which a denoiser can use.
#
# The model learns from `train`. `val` tells us how it is doing while it learns, and `test` is for the end.

# %% [markdown]
# ## The noise layer
#
# The noise is as simple as can be: to every pixel we add a random number from a normal distribution with mean $\mu$
# and standard deviation $\sigma$. The result is *not* clipped to [0, 1]. And the noise must act **while training
# only**: a layer that goes on spoiling pictures when the model is in use would be of no use.
#
# PyTorch tells a layer which of the two it is: `self.training` is true after `model.train()` and false after
# `model.eval()`. So, written out:


# %%
class WrittenOutNoise(nn.Module):
    def __init__(self, mean=0.0, sigma=1.0):
        super().__init__()
        self.mean, self.sigma = mean, sigma

    def forward(self, images):
        if not self.training:
            return images
        return images + self.mean + self.sigma * torch.randn_like(images)


# %% [markdown]
# The package's `GaussianNoise` is the same, plus a random generator that you can hand to it, so that a training can
# be repeated to the last bit.

# %%
for layer in (WrittenOutNoise(mean=0.0, sigma=2.0), GaussianNoise(mean=0.0, sigma=2.0)):
    added = layer.train()(train) - train
    same = torch.equal(layer.eval()(train), train)
    print(f"{type(layer).__name__}: mean {added.mean():.3f}, deviation {added.std():.3f}; in use, unchanged: {same}")

# %%
levels = {f"sigma {sigma:g}": GaussianNoise(sigma=sigma)(train[:10]) for sigma in (0.25, 0.5, 1, 2, 6)}
show("noise", examples_figure({"clean": train[:10]} | levels, "the same pictures under more and more noise"))

# %% [markdown]
# **Look at** the row of sigma 2, which is what our model will get: the noise is twice as strong as the whole range
# from black to white. Can *you* tell the letters? (The figure has to clip what is darker than black or lighter than
# white. The model sees the true values.)
#
# > **Exercise 1.** Write a `Masking` layer that sets each pixel to 0 with probability $p$, in training only. Check
# > that about a share $p$ of the pixels is lost.

# %% [markdown]
# ## The model
#
# One layer in, one layer out:
#
# * flatten the 784 pixels, add noise;
# * *encoder*: a dense layer to 256 numbers, then LeakyReLU with slope 0.3: that is the code;
# * *decoder*: a dense layer back to 784 numbers, then a sigmoid, so that they lie between 0 and 1.
#
# The loss is the *binary cross-entropy* of each pixel, averaged. The optimiser is Adam. Small print from the
# notebook: Keras starts its weights by Glorot's rule and its biases at 0, and its Adam has an epsilon of 1e-7;
# PyTorch's defaults differ in all three. As a LightningModule:


# %%
class WrittenOut(lightning.LightningModule):
    def __init__(self, input_shape=(28, 28), latent=256, mean=0.0, sigma=1.0):
        super().__init__()
        pixels = math.prod(input_shape)
        self.noise = WrittenOutNoise(mean, sigma)
        self.encoder = nn.Linear(pixels, latent)
        self.decoder = nn.Linear(latent, pixels)
        for layer in (self.encoder, self.decoder):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, images):
        code = F.leaky_relu(self.encoder(self.noise(images).flatten(1)), 0.3)
        return torch.sigmoid(self.decoder(code)).view_as(images)

    def training_step(self, clean, batch_idx):
        loss = F.binary_cross_entropy(self(clean), clean)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3, eps=1e-7)


# %% [markdown]
# That is the whole idea in under 25 lines. The package's class does the same, and also validates, tests, checks its
# input, repeats its random numbers and saves itself. Given the same weights, both give the same answer:

# %%
written = WrittenOut(latent=256, sigma=2.0)
model = DenoisingAutoencoder(input_shape=(28, 28), latent=256, noise=GaussianNoise(mean=0.0, sigma=2.0))
at_first = {name: weights.clone() for name, weights in model.network.state_dict().items()}
model.network.load_state_dict(written.state_dict())
with torch.no_grad():
    difference = (model.eval()(test) - written.eval()(test)).abs().max().item()
model.network.load_state_dict(at_first)
print(f"largest difference of any pixel: {difference:.1e}")

# %% [markdown]
# > **Exercise 2.** How many numbers does the model learn? Count on paper, then let Python count. What share of them
# > would a code of 32 numbers need?

# %% [markdown]
# ## Training
#
# Both are ordinary LightningModules, so a stock `Trainer` and a stock `DataLoader` will do. `TrainingBar` is one
# progress bar for the whole training. Thanks to `StopAfterStep`, you can press the notebook's stop button: the
# training ends after the current step, and the model keeps what it has learned.
#
# First one epoch of the written-out model: 250 batches of 32 pictures.

# %%
QUIET = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_model_summary": False}
trainer = lightning.Trainer(max_epochs=1, callbacks=[TrainingBar(), StopAfterStep()], **QUIET)
trainer.fit(written.train(), DataLoader(train, 32, shuffle=True))
written_loss = trainer.callback_metrics["train/loss"].item()
print(f"loss of the first epoch: {written_loss:.4f}")

# %% [markdown]
# Now the package's model, for longer. A callback keeps the losses of every epoch, which Keras would return as the
# `history` of `fit`. (The notebook trains for 100 epochs on 60,000 pictures. We have four minutes.)


# %%
class Losses(lightning.Callback):
    def __init__(self):
        self.rows = []

    def on_train_epoch_end(self, trainer, pl_module):
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        self.rows.append({"epoch": trainer.current_epoch + 1} | metrics)


def fit(model, epochs, batch_size=32):
    """Train on the training pictures; the losses of every epoch."""
    losses = Losses()
    callbacks = [losses, TrainingBar(), StopAfterStep()]
    trainer = lightning.Trainer(max_epochs=epochs, callbacks=callbacks, num_sanity_val_steps=0, **QUIET)
    trainer.fit(model.train(), DataLoader(train, batch_size, shuffle=True), DataLoader(val, 250))
    model.eval()  # from here on it is in use: no noise of its own
    return losses.rows


# %%
losses = fit(model, epochs=12)

# %% [markdown]
# ## The loss curve
#
# How good has the training been?

# %%
show("loss", loss_figure(losses))
lowest = entropy(train).mean().item()
print(f"training loss: {losses[0]['train/loss']:.4f} in the first epoch, {losses[-1]['train/loss']:.4f} in the last")
print(f"no model can get below {lowest:.4f}")

# %% [markdown]
# **Look at** the two upper curves: training and validation with noisy pictures stay together. The model does not
# learn its pictures by heart; with fresh noise in every epoch it never sees the same input twice. The lower curve is
# an easier task, clean pictures in.
#
# Why does the loss not go to 0? Two reasons. Noise destroys, and what is gone nobody can restore. And this loss has a
# floor of its own: for a grey target $t$ even the perfect answer $s = t$ costs $-t \log t - (1-t) \log (1-t)$, which
# is 0 for black and white only.
#
# > **Exercise 3.** Replace the loss by the mean squared error, whose floor is 0. Does the model get better, measured
# > in PSNR? (Override `loss(self, noisy, clean)`.)

# %% [markdown]
# ## Images it has seen, and images it has not
#
# The notebook now lays originals above reconstructions: clean pictures in, pictures out. First training images:


# %%
@torch.no_grad()
def clean_in(model, images):
    return {"original": images, "reconstruction": model(images)}


show("training_images", examples_figure(clean_in(model, train[:10]), "training images, clean in"))

# %% [markdown]
# and test images, which the model has never seen:

# %%
show("test_images", examples_figure(clean_in(model, test[:10]), "test images, clean in"))

# %% [markdown]
# **Look at** the edges: reconstructions are softer than originals. And compare the two figures: unseen images come
# back as well as seen ones. What the model has learned is not these pictures but this *kind* of picture.

# %% [markdown]
# ## A lot of noise
#
# The notebook's second experiment: a smaller code, 192, and noise of sigma 6.

# %%
strong = DenoisingAutoencoder(input_shape=(28, 28), latent=192, noise=GaussianNoise(mean=0.0, sigma=6.0))
strong_losses = fit(strong, epochs=8)
show("strong", examples_figure(clean_in(strong, test[:10]), "trained at sigma 6: test images, clean in"))
print(
    f"training loss in the last epoch: {strong_losses[-1]['train/loss']:.4f}; at sigma 2 {losses[-1]['train/loss']:.4f}"
)

# %% [markdown]
# **Look at** how different letters become alike. The pictures that went in were perfectly clean! But this model has
# learned to expect almost nothing of its input, and to answer with something that is never far wrong.
#
# Here the notebook ends. It has trained two denoisers and never denoised anything.

# %% [markdown]
# ## Noisy in
#
# So let us do it. `corrupt_each` gives each test picture its noise, a function of a seed and of the picture's place:
# in this way every method below gets exactly the same noisy pictures.


# %%
def noisy_at(sigma):
    return corrupt_each(GaussianNoise(mean=0.0, sigma=sigma), test, seed=0, indices=torch.arange(len(test)))


@torch.no_grad()
def psnr_of(estimate, sigma):
    """PSNR in dB on the test pictures: clean in (reconstruction), and with noise of this sigma (denoising)."""
    scores = score(estimate, [(test, noisy_at(sigma))])
    return {task: values["psnr"] for task, values in scores.items()}


noisy = noisy_at(2.0)
with torch.no_grad():
    rows = {"clean": test[:10], "noisy, sigma 2": noisy[:10], "denoised": model(noisy[:10])}
show("noisy_in", examples_figure(rows, "noisy in"))
model_psnr = psnr_of(model, 2.0)
print(model_psnr)

# %% [markdown]
# **Look at** the middle row, then at the last one. This is what the model was made for: most letters are back,
# though some have turned into others.
#
# *PSNR* says how close an estimate is, in decibels: $10 \log_{10} (1 / \text{mean squared error})$. More is better,
# and 3 dB more mean half the squared error. Denoising is harder than reconstruction, so its PSNR is lower. Reports
# that give one number should say which of the two it is.
#
# ### A trap: noise that is never added
#
# Under Keras 3 the notebook runs without complaint, and trains **without noise**. Its layer relies on being told
# whether it is training, and Keras 3 tells only layers whose `call` takes an argument `training`. Here is the same
# mistake in PyTorch, an argument that nobody passes:


# %%
class SilentNoise(WrittenOutNoise):
    def forward(self, images, training=False):
        return images + self.sigma * torch.randn_like(images) if training else images


trapped = WrittenOut(latent=256)
trapped.noise = SilentNoise(sigma=2.0)
trainer = lightning.Trainer(max_epochs=6, callbacks=[TrainingBar(), StopAfterStep()], **QUIET)
trainer.fit(trapped, DataLoader(train, 32, shuffle=True))
trapped_loss = trainer.callback_metrics["train/loss"].item()
trapped_psnr = psnr_of(trapped.eval(), 2.0)
with torch.no_grad():
    reconstructions = {"clean in, trained with noise": model(test[:10]), "clean in, trapped": trapped(test[:10])}
    denoised = {"noisy in, trained with noise": model(noisy[:10]), "noisy in, trapped": trapped(noisy[:10])}
show("trap", examples_figure({"original": test[:10]} | reconstructions | denoised, "a model that never saw noise"))
print(f"training loss {trapped_loss:.4f}", trapped_psnr)

# %% [markdown]
# **Look at** the rows of clean pictures: by everything that the notebook shows, the broken model is the *better* one.
# Its loss is lower, its reconstructions are sharper. Only a noisy picture gives it away.
#
# The moral: test that the noise is there. Two passes of the same picture in training mode must differ.


# %%
def adds_noise(model):
    model.train()
    with torch.no_grad():
        differ = not torch.equal(model(test[:1]), model(test[:1]))
    model.eval()
    return differ


print({"ours": adds_noise(model), "written out": adds_noise(written), "trapped": adds_noise(trapped)})

# %% [markdown]
# > **Exercise 4.** Take nine noisy versions of the same picture at sigma 6 and average them. What is the sigma of the
# > average? Which of our two models should denoise it, and what PSNR do you expect?

# %% [markdown]
# ## Floors and ceilings
#
# Is that PSNR good? A number says nothing until you know what is easy and what is possible. Three estimates need no
# training loop:
#
# * the **mean image**, whatever the input: whoever does not beat this *floor* has not understood the input at all;
# * the **Wiener** estimate, the best *linear* one, computed from the mean and the covariance of the training
#   pictures;
# * the **posterior mean**: an average of all training pictures, weighted by how well each explains the noisy one. If
#   the test picture were one of them, no method could do better. It is no network, just a very expensive memory: a
#   *ceiling* to aim at.

# %%
estimates = {
    "mean image": mean_image(stored, GaussianNoise(sigma=2.0)),
    "Wiener": wiener(stored, GaussianNoise(sigma=2.0)),
    "our model": model,
    "posterior mean": posterior_mean(stored, GaussianNoise(sigma=2.0)),
}
at_2 = {name: psnr_of(estimate, 2.0)["denoising"] for name, estimate in estimates.items()}
for name, psnr in at_2.items():
    print(f"{name:15} {psnr:6.2f} dB")
with torch.no_grad():
    gallery = {name: estimate(noisy[:10]) for name, estimate in estimates.items()}
show("estimates", examples_figure({"clean": test[:10], "noisy": noisy[:10]} | gallery, "sigma 2"))

# %% [markdown]
# **Look at** the rows of the Wiener estimate and of our model: they are hard to tell apart, and PSNR says the same.
# Much of what our model does here a linear method can do. The posterior mean draws by far the sharpest letters, because
# it remembers whole letters, and sometimes it is sharply wrong. The fifth letter is an I; every method takes it for a B.
# In that noise, it does look more like a B.
#
# > **Exercise 5.** Does a denoiser need a large code? Train codes of 8, 32 and 256 numbers for four epochs each, and
# > compare reconstruction and denoising.

# %% [markdown]
# ## The wrong noise
#
# A model is trained at one sigma. In use, nobody guarantees that. Let us test both models over a range of noise.

# %%
SIGMAS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 6.0)


def curve(estimate, *trained):
    return Curve([(sigma, psnr_of(estimate, sigma)["denoising"]) for sigma in SIGMAS], trained)


def fitted(method):
    """A method that is told sigma, and computed anew for each."""
    noises = [GaussianNoise(sigma=sigma) for sigma in SIGMAS]
    return Curve([(noise.sigma, psnr_of(method(stored, noise), noise.sigma)["denoising"]) for noise in noises])


curves = {
    "trained at sigma 2": curve(model, 2.0),
    "trained at sigma 6": curve(strong, 6.0),
    "mean image": fitted(mean_image),
    "Wiener, told sigma": fitted(wiener),
    "posterior mean, told sigma": fitted(posterior_mean),
    "the noisy picture, clipped": curve(lambda noisy: noisy.clamp(0, 1)),
}
show("mismatch", curve_figure(curves, "sigma"))

# %% [markdown]
# **Look at** four places.
#
# * At the upright lines each model is at home. The model of sigma 6 is hardly better than the mean image even there, and
#   nowhere else.
# * At the right, the model of sigma 2 drops below the mean image: it takes noise for strokes, and would do better not to
#   look at its input at all.
# * At the left, where the noise is weak, the noisy picture itself is better than anything our models make of it. They are
#   denoisers that spoil nearly clean pictures!
# * There the "ceiling" is none: a test picture is not among the training pictures, and an average of those cannot become
#   one. Told that there is little noise, the Wiener estimate simply keeps what it sees.

# %% [markdown]
# ## One model for every level
#
# The cure is to let the network know how noisy its input is. The package's `sigma_aware` network keeps one dense
# layer in and one out. It divides its input by about sigma, scales and shifts the code by a small function of sigma,
# and mixes a share of the input into the output: much where the noise is weak, none where it is strong.
#
# And where does it get sigma from? From the picture itself. In smooth pictures neighbours are alike; what differs
# from pixel to pixel is noise, so its size can be read off. It is trained with another sigma for every picture,
# between 0.03 and 8, and with a rate that rises and falls (`adam_onecycle`), since it has more to learn.

# %%
every = DenoisingAutoencoder(
    input_shape=(28, 28),
    latent=256,
    noise=GaussianRange(mean=0.0, low=0.03, high=8.0),
    network={"kind": "sigma_aware", "input_scale": 0.1},
    optim={"kind": "adam_onecycle", "lr": 6e-3, "warmup": 0.1},
)
fit(every, epochs=20, batch_size=64)
every_curve = {"one model for every sigma": curve(every, 0.03, 8.0)}
show("every", curve_figure(curves | every_curve, "sigma"))

# %% [markdown]
# **Look at** the green curve, with the bar at its foot where it was trained. It is as good as each of the other models at
# home, and far better elsewhere. At the left it does not fall below the noisy picture: the network has learned when to
# keep its hands off.

# %%
column = test[:1].expand(len(SIGMAS), 28, 28)
spoiled = torch.cat([noisy_at(sigma)[:1] for sigma in SIGMAS])
with torch.no_grad():
    rows = {"noisy": spoiled, "trained at 2": model(spoiled), "every sigma": every(spoiled), "clean": column}
show("levels", examples_figure(rows, "one picture at sigma " + ", ".join(f"{sigma:g}" for sigma in SIGMAS)))

# %% [markdown]
# **Look at** the left columns: the second row redraws a letter that was nearly clean, the third leaves it alone. Then at
# the right ones: the second row draws bright strokes where there is only noise. The third becomes pale instead, which is
# how a denoiser says "I cannot tell".
#
# > **Exercise 6.** Lie to it. `every.network(noisy, sigma=...)` tells the network a sigma instead of letting it
# > estimate. Give it pictures of sigma 2 and say 0.5, 2 and 6. What does each lie do to them?

# %% [markdown]
# ## What to take home
#
# * A denoising autoencoder learns without labels what its pictures look like, because it has to restore what the
#   noise took. This is *self-supervision*; the denoisers inside of today's image generators learn by the same loss,
#   at every level of noise.
# * Judge a denoiser by noisy pictures, and next to a floor and a ceiling.
# * A model knows the kind of pictures and the noise that it was trained on, and nothing else, unless you teach it to
#   look how noisy its input is.
#
# [How they compare on Fashion-MNIST](evaluation.md), [one model for every level](any_sigma.md) and [extending the
# package](extending.md) go on from here. On the command line, the notebook's two experiments are `python train.py
# experiment=notebook_sigma2` and `experiment=notebook_sigma6`.

# %% [markdown]
# ## Solutions
#
# **Exercise 1.** Like the noise layer, with another last line. The share that was lost is close to $p$ among the
# pixels that were not black before.


# %%
class Masking(nn.Module):
    def __init__(self, probability):
        super().__init__()
        self.probability = probability

    def forward(self, images):
        if not self.training:
            return images
        return images * (torch.rand_like(images) >= self.probability)


masking = Masking(0.3)
bright = train > 0
lost = ((masking(train) == 0) & bright).sum() / bright.sum()
print(f"lost {lost:.3f}; in use, unchanged: {torch.equal(masking.eval()(train), train)}")

# %% [markdown]
# **Exercise 2.** The encoder has 784 x 256 weights and 256 biases, the decoder 256 x 784 weights and 784 biases:
# 402,448 in all. Nearly all of them are weights, so a code an eighth as long needs an eighth of the numbers.

# %%
count = sum(weights.numel() for weights in model.parameters())
small = DenoisingAutoencoder((28, 28), 32, GaussianNoise(sigma=2.0))
share = sum(weights.numel() for weights in small.parameters()) / count
print(count, 784 * 256 + 256 + 256 * 784 + 784, f"{share:.3f}")


# %% [markdown]
# **Exercise 3.** PSNR *is* the mean squared error, on another scale, so training for it should win. The difference
# turns out to be small: both losses are smallest for the same answer, the mean of all clean pictures that might hide
# behind the noisy one.


# %%
class Squared(DenoisingAutoencoder):
    def loss(self, noisy, clean):
        return F.mse_loss(self.decode(self.encode(noisy)), clean)


by_loss = {}
for kind in (DenoisingAutoencoder, Squared):
    learner = kind((28, 28), 256, GaussianNoise(sigma=2.0))
    fit(learner, epochs=4)
    by_loss[kind.__name__] = psnr_of(learner, 2.0)["denoising"]
print(by_loss)

# %% [markdown]
# **Exercise 4.** The mean of nine independent numbers has a third of their deviation: 6 / 3 = 2. So the model of
# sigma 2 should take it, and do as well as on pictures of sigma 2. It does, to within a few hundredths of a decibel.

# %%
torch.manual_seed(0)
nine = torch.stack([test + 6.0 * torch.randn_like(test) for _ in range(9)])
average = nine.mean(0)
with torch.no_grad():
    averaged = {name: score(m, [(test, average)])["denoising"]["psnr"] for name, m in (("2", model), ("6", strong))}
print(f"deviation {(average - test).std():.3f}", averaged, "on pictures of sigma 2:", model_psnr["denoising"])

# %% [markdown]
# **Exercise 5.** Not very large. 8 numbers are too few, but 32 do nearly as well as 256, in both tasks: at sigma 2 there
# is only so much to be known about a picture, and few numbers hold it. It is the noise that keeps this model from copying,
# much more than the narrow code.

# %%
by_latent = {}
for latent in (8, 32, 256):
    learner = DenoisingAutoencoder((28, 28), latent, GaussianNoise(sigma=2.0))
    fit(learner, epochs=4)
    by_latent[latent] = psnr_of(learner, 2.0)
    print(latent, by_latent[latent])

# %% [markdown]
# **Exercise 6.** Told too little, the network takes noise for strokes and answers in hard black and white. Told too much,
# it hardly trusts what it sees, and answers with a pale blur. On letters, each costs nearly two decibels.

# %%
told = {
    sigma: psnr_of(lambda y, sigma=sigma: every.network(y, sigma=sigma), 2.0)["denoising"] for sigma in (0.5, 2.0, 6.0)
}
print("estimated by itself:", psnr_of(every, 2.0)["denoising"], "told:", told)
with torch.no_grad():
    rows = {f"told {sigma:g}": every.network(noisy[:10], sigma=sigma) for sigma in told}
show("lies", examples_figure({"clean": test[:10], "noisy, sigma 2": noisy[:10]} | rows, "what a wrong sigma does"))
