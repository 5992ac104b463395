"""Damage, seeded: what a failing disk, a broken transfer or a stranger may make of a file or of its content."""

import copy
import io
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from dae_lightning.model.checkpoint import seal, write_checkpoint

VALUES = (
    *(None, True, -1, 0, 1, 7, 2**31, 2**62, -0.5, 1.5, 1e300, float("inf"), float("nan"), "", "adam", "x" * 10_000),
    *([], {}, (), [[0]], {"kind": "gaussian"}, torch.zeros(3), torch.full((), float("nan")), torch.zeros(2, 2).long()),
)


def mutated_bytes(whole: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` files that differ from `whole`: flipped bits, cuts, splices, zeros, noise, headers taken away."""
    draw = random.Random(seed)
    while count:
        content = bytearray(whole)
        place, other = draw.randrange(len(whole)), draw.randrange(len(whole))
        length = min(draw.choice((1, 4, 16, 300)), len(whole) - max(place, other))
        match draw.randrange(7):
            case 0 | 1:
                content[place] ^= 1 << draw.randrange(8)
            case 2:
                del content[place:]
            case 3:
                del content[place : place + length]
            case 4:
                content[place : place + length] = whole[other : other + length]
            case 5:
                content[place : place + length] = draw.randbytes(length)
            case 6:
                content[place:place] = whole[other : other + length]
        if content != whole:
            count -= 1
            yield bytes(content)


def mutated_values(tree: dict[str, Any], count: int, seed: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """`count` copies of a tree of values, each with one changed, renamed, taken away or added; and which one."""
    draw = random.Random(seed)
    for _ in range(count):
        changed = copy.deepcopy(tree)
        parent: Any = changed
        key: Any = draw.choice(list(changed))
        path = [key]
        while isinstance(parent[key], (dict, list)) and parent[key] and draw.random() < 0.9:
            parent = parent[key]
            key = draw.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
            path.append(key)
        what = draw.choice(("change", "change", "change", "delete", "add", "rename"))
        if what == "delete":
            del parent[key]
        elif what in ("add", "rename") and isinstance(parent, dict):
            parent["_instantiator"] = parent.pop(key) if what == "rename" else "os.system"
        else:
            near = (parent[key] + 1, parent[key] * 2) if type(parent[key]) in (int, float) else ()
            parent[key] = draw.choice(near * 6 + VALUES)
        yield f"{what} {'.'.join(map(str, path))}", changed


def mutated_members(path: Path, count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` checkpoints whose members are damaged or swapped, and whose checksums and digest are right."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    draw = random.Random(seed)
    for number in range(count):
        changed = dict(members)
        first, second = draw.sample(list(changed), 2)
        if number % 3 == 0:
            changed[first], changed[second] = changed[second], changed[first]
        else:
            (pickled,) = (name for name in changed if name.endswith("data.pkl"))
            chosen = pickled if number % 3 == 1 else first
            (changed[chosen],) = mutated_bytes(changed[chosen], 1, seed + number)
        yield sealed(changed)


def sealed(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive whose digest, in its comment, is right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    comment = seal(buffer.getbuffer())
    return buffer.getvalue() + comment


def rewritten(tree: dict[str, Any], path: Path) -> Path:
    """`path`, with these values in it."""
    path.unlink(missing_ok=True)
    write_checkpoint(tree, path)
    return path
