"""Every random draw of the project is a function of a seed and of what is drawn: never of what was drawn before."""

import hashlib

import torch


def derive(seed: int, *stream: str | int) -> int:
    """The seed of the draw named by `stream`: `derive(seed, "order", epoch)`; 0 <= result < 2**63."""
    digest = hashlib.blake2b(repr((seed, *stream)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, *stream: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator for the draw named by `stream`."""
    return torch.Generator(device).manual_seed(derive(seed, *stream))
