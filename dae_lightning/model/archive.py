"""The file of a checkpoint: torch's zip archive with a SHA-256 digest of itself at its end.

`torch.load` reads it as it reads any other, but takes a byte that has flipped in a tensor for the tensor's. Here every
byte counts: the digest lies in the archive's comment, and covers all that comes before it.
"""

import hashlib
import io
import os
import re
import sys
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from dae_lightning.errors import CheckpointError
from dae_lightning.files import replacing
from dae_lightning.model.plain_pickle import read_plain

MOST_BYTES = 2**31  # 170 million weights with Adam's two moments
MOST_MEMBERS = 1000
_MARK = b"sha256:"
_SIZE = len(_MARK) + 64
_DIGEST = re.compile(_MARK + rb"[0-9a-f]{64}")
_NO_COMMENT = re.compile(rb"PK\x05\x06.{16}\0\0", re.DOTALL)  # the end of an archive (APPNOTE.TXT, section 4.3.16)


def write_archive(content: dict[str, Any], path: Path) -> None:
    """Write plain values and tensors, whole or not at all.

    Raises:
        OSError: it could not be written; what was there before still is.
    """
    buffer = io.BytesIO()  # torch turns a full disk into an error of its own; a copy in memory is cheap
    torch.save(content, buffer)
    archive = buffer.getbuffer()
    with replacing(path) as file:
        file.writelines((archive, seal(archive)))


def seal(archive: memoryview) -> bytes:
    """The comment that belongs at the end of `archive`, which has none so far and is told of it."""
    archive[-2:] = _SIZE.to_bytes(2, "little")  # the last two bytes of an archive without a comment are its length
    return _MARK + hashlib.sha256(archive).hexdigest().encode()


def read_archive(path: Path) -> Any:
    """The values and tensors in a file, on the CPU.

    An archive without a digest is read too (Lightning's own Trainer writes such): the members' CRC-32 stand in.

    Raises:
        CheckpointError: there is no such file, or it is damaged, or holds anything else.
    """
    if not path.is_file():
        kind = "is no regular file" if path.exists() else "no such checkpoint (URLs are not fetched)"
        raise CheckpointError(f"{path}: {kind}")
    try:
        with path.open("rb") as file:
            return _read(file)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    # the last five: what zipfile and the pickle's reader raise for damaged files
    except (ValueError, LookupError, TypeError, zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise CheckpointError(f"{path}: damaged, or no checkpoint ({' '.join(str(error).split())})") from error


def _read(file: IO[bytes]) -> Any:
    size = os.fstat(file.fileno()).st_size
    if size > MOST_BYTES:
        raise ValueError(f"{size:,} bytes, but {MOST_BYTES:,} can be read")
    content = file.read(size)
    _check_end(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise ValueError("packed, which torch does not do")
        (folder,) = {name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")} or {""}

        def record(name: str) -> bytes:
            return archive.read(members.pop(folder + name))  # each but once; zipfile checks its CRC-32

        if f"{folder}byteorder" in members and record("byteorder") != sys.byteorder.encode():
            raise ValueError(f"written on a machine that is not {sys.byteorder}-endian")
        return read_plain(record("data.pkl"), lambda name: record(f"data/{name}"))


def _check_end(content: bytes) -> None:
    if not content.startswith(b"PK\x03\x04"):
        raise ValueError("not a zip archive")
    if _DIGEST.fullmatch(digest := content[-_SIZE:]):
        if digest != _MARK + hashlib.sha256(memoryview(content)[:-_SIZE]).hexdigest().encode():
            raise ValueError("its content is not what was written: the digest differs")
    elif not _NO_COMMENT.fullmatch(content[-22:]):
        raise ValueError("not a whole zip archive")
    if content.count(b"PK\x01\x02") > MOST_MEMBERS:  # each would take more memory than it takes in the file
        raise ValueError(f"a zip archive of more than {MOST_MEMBERS:,} members")
