"""Reads the pickle in a checkpoint as plain values and tensors. Nothing that it names is imported, built or called.

`torch.load(weights_only=True)` keeps a list of what may be called: ways round it were found in torch 2.5
(CVE-2025-32434) and 2.9 (CVE-2026-24747), and `bytearray`, of any size, is on it. A checkpoint of this project needs
less, some thirty instructions of pickle protocol 2 (`python -m pickletools` names them) and no calls: that is all
there is here.
"""

import math
import pickletools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

# what torch.save names in its pickles, and what stands for it here
_DICT, _TENSOR = object(), object()
_NAMES: dict[str, Any] = {
    "collections OrderedDict": _DICT,
    "torch._utils _rebuild_tensor_v2": _TENSOR,
    "torch FloatStorage": torch.float32,
    "torch LongStorage": torch.int64,
}
MOST_INSTRUCTIONS = 2**21  # 10,000 epochs take a quarter of them
DEEPEST = 20  # lists, tuples and dicts in each other; Lightning's loops go to 7
MOST_DIMENSIONS = 8

Record = Callable[[str], bytes]


class _Storage(NamedTuple):
    """A tensor's numbers, without their shape."""

    dtype: torch.dtype
    content: bytes


def read_plain(pickled: bytes, record: Record) -> Any:
    """The dicts (keys are str or int), lists, tuples, str, int, float, bool, None and dense CPU tensors in a pickle.

    Whoever walks over them comes to an end soon, though a value may appear in several places. `record` gives the
    content of a tensor by its name.

    Raises:
        ValueError, LookupError: it holds anything else, or is damaged.
    """
    stack: list[Any] = []
    marks: list[list[Any]] = []
    memo: dict[int, Any] = {}
    instructions: Iterator[tuple[Any, Any, Any]] = pickletools.genops(pickled)
    for count, (opcode, argument, _) in enumerate(instructions):
        if count == MOST_INSTRUCTIONS:
            raise ValueError(f"more than {MOST_INSTRUCTIONS:,} pickle instructions")
        match opcode.name:
            case "PROTO":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
            case "BININT" | "BININT1" | "BININT2" | "BINFLOAT":
                stack.append(argument)
            case "LONG1" if -(2**63) <= argument < 2**63:
                stack.append(argument)
            case "BINUNICODE":
                argument.encode()  # UnicodeEncodeError where it could not be printed
                stack.append(argument)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(opcode.name[-1])
                stack[-size:] = [tuple(stack[-size:])]
            case "MARK":
                marks.append(stack)
                stack = []
            case "TUPLE" | "APPENDS" | "SETITEMS":
                items, stack = stack, marks.pop()
                if opcode.name == "TUPLE":
                    stack.append(tuple(items))
                else:
                    _extend(stack[-1], items)
            case "APPEND":
                item = stack.pop()
                _extend(stack[-1], [item])
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _extend(stack[-1], [key, value])
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                if argument not in _NAMES:
                    raise ValueError(
                        f"names {argument[:80].replace(' ', '.')}, which no checkpoint of this project does"
                    )
                stack.append(_NAMES[argument])
            case "BINPERSID":
                stack.append(_storage(stack.pop(), record))
            case "REDUCE":
                arguments, name = stack.pop(), stack.pop()
                stack.append(_tensor(*arguments) if name is _TENSOR else _empty_dict(name, arguments))
            case "BUILD":  # an OrderedDict's attributes: torch notes versions of its modules there
                stack.pop()
            case "STOP":
                result = stack.pop()
                for number, _ in enumerate(_walk(result, DEEPEST)):
                    if number == MOST_INSTRUCTIONS:
                        raise ValueError("values in too many places")
                return result
            case _:
                raise ValueError(f"the pickle instruction {opcode.name}")
    raise ValueError("no end")


def _extend(target: Any, items: list[Any]) -> None:
    if type(target) is list:
        target.extend(items)
        return
    keys = items[::2]
    # others may be made to collide, or to be hashed for ever
    if type(target) is not dict or len(items) % 2 or not all(type(key) in (str, int) for key in keys):
        raise ValueError("a list or dict that is none")
    target.update(zip(keys, items[1::2], strict=True))


def _empty_dict(name: Any, arguments: Any) -> dict[Any, Any]:
    if name is not _DICT or type(arguments) is not tuple or arguments:
        raise ValueError("a call")
    return {}


def _storage(identity: Any, record: Record) -> _Storage:
    match identity:
        case ("storage", torch.dtype() as dtype, str() as name, str(), int() as size):
            content = record(name)
            if size * dtype.itemsize == len(content):
                return _Storage(dtype, content)
    raise ValueError("a tensor whose numbers are not there")


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """One that fills its storage exactly, in the order of its dimensions: no strides that make much out of little."""
    plain = all(type(sizes) is tuple and all(type(size) is int for size in sizes) for sizes in (shape, strides))
    if not plain or not isinstance(storage, _Storage) or len(shape) > MOST_DIMENSIONS:
        raise ValueError("a tensor that is none")
    dense = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    whole = min(shape, default=1) > 0 and math.prod(shape) * storage.dtype.itemsize == len(storage.content)
    if not whole or strides != dense or type(offset) is not int or offset:
        raise ValueError("a tensor that is not dense, or not of the size of its numbers")
    return torch.frombuffer(bytearray(storage.content), dtype=storage.dtype).view(shape)


def _walk(value: Any, depth: int) -> Iterator[None]:
    """One step for every value, again wherever it appears again: ten lists of ten each other's lists are many."""
    yield
    if isinstance(value, (dict, list, tuple)):
        if depth == 0:
            raise ValueError(f"values nested more than {DEEPEST} deep")
        for item in value.values() if isinstance(value, dict) else value:
            yield from _walk(item, depth - 1)
    elif value is not None and not isinstance(value, (str, int, float, Tensor)):
        raise ValueError("something that is no plain value")
