"""How the numbers in README.md and docs/ were measured; torch's threads wait as in the commands."""

from dae_lightning import threads

threads.settle()
