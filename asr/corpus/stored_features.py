"""Features that other programs have stored: Sphinx's `.mfc` files and Kaldi's archives; no torch.

Dimension names: frame, bin (values of a frame).
"""

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from asr.errors import DataError
from asr.files import open_regular, read_file

_MFC_VALUES = 13  # values in a frame of a Sphinx .mfc file, which does not say
_ARK_ENTRY = re.compile(r"(.+\.ark):(\d+)")

Features = npt.NDArray[np.float32]


def is_feature_path(path: Path) -> bool:
    """Whether the name is that of stored features: `.mfc`, or an entry `file.ark:offset`."""
    return path.suffix == ".mfc" or _ARK_ENTRY.fullmatch(str(path)) is not None


def read_features(path: Path) -> Features:
    """Stored features, [frame, bin]: a Sphinx `.mfc` file or an entry `file.ark:offset`.

    A `.mfc` file has 13 values in a frame. An archive is Kaldi's binary one, compressed or not.

    Raises:
        DataError: unreadable, truncated, empty, of another format, or holding NaN.
    """
    entry = _ARK_ENTRY.fullmatch(str(path))
    try:
        if entry is None:
            features = _read_mfc(path)
        else:
            with open_regular(Path(entry[1])) as file:
                file.seek(int(entry[2]))
                features = _read_matrix(file, path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    if not features.size:
        raise DataError(f"{path}: holds no frames")
    if not np.isfinite(features).all():
        raise DataError(f"{path}: holds values that are NaN or infinite")
    return features


def _read_mfc(path: Path) -> Features:
    """Sphinx: an int32 count of float32 values, then these, in either byte order."""
    content = read_file(path)
    num_values, rest = divmod(len(content) - 4, 4)
    for order in "><":
        if (
            num_values >= 0
            and not rest
            and np.frombuffer(content, order + "i4", 1)[0] == num_values
        ):
            if num_values % _MFC_VALUES:
                raise DataError(f"{path}: {num_values} values are no frames of {_MFC_VALUES} each")
            values = np.frombuffer(content, order + "f4", offset=4)
            return values.astype(np.float32).reshape(-1, _MFC_VALUES)
    if num_values < 0:
        raise DataError(f"{path}: truncated: {len(content)} bytes, without the count of values")
    count = np.frombuffer(content, ">i4", 1)[0]
    raise DataError(
        f"{path}: truncated, or no Sphinx feature file: its count says {count} values, "
        f"{len(content) - 4} bytes follow"
    )


def _read_matrix(file: BinaryIO, path: Path) -> Features:
    """Kaldi: a zero byte and "B", a word for the kind, the size, the values; little-endian.

    Source:
        Kaldi, matrix/kaldi-matrix.cc (Read) and matrix/compressed-matrix.h.
    """

    def take(count: int) -> bytes:
        if not 0 <= count <= size - file.tell():
            raise DataError(f"{path}: truncated, or the offset is not that of a matrix")
        return file.read(count)

    start = file.tell()
    size = file.seek(0, 2)
    file.seek(start)
    if take(2) != b"\0B":
        raise DataError(f"{path}: no binary Kaldi matrix there; `copy-feats ark:- ark,scp:...`")
    kind = b""
    while not kind.endswith(b" "):
        kind += take(1)
        if len(kind) > 4:
            raise DataError(f"{path}: {kind!r} is no kind of Kaldi matrix")
    if kind in (b"FM ", b"DM "):
        width = 4 if kind == b"FM " else 8
        _, rows, _, columns = struct.unpack("<bIbI", take(10))
        values = take(rows * columns * width)
        return np.frombuffer(values, f"<f{width}").astype(np.float32).reshape(rows, columns)
    if kind in (b"CM ", b"CM2 ", b"CM3 "):
        return _read_compressed(kind, take)
    raise DataError(f"{path}: {kind!r} is no kind of Kaldi matrix that holds features")


def _read_compressed(kind: bytes, take: Callable[[int], bytes]) -> Features:
    """Kaldi's 8 and 16 bit matrices; `CM` has quartiles for each column, stored by column."""
    low, span, rows, columns = struct.unpack("<ffII", take(16))
    if kind == b"CM2 ":
        values = np.frombuffer(take(2 * rows * columns), "<u2").reshape(rows, columns)
        return np.asarray(low + span / 65535 * values, np.float32)
    if kind == b"CM3 ":
        values = np.frombuffer(take(rows * columns), "u1").reshape(rows, columns)
        return np.asarray(low + span / 255 * values, np.float32)
    quartiles = np.frombuffer(take(8 * columns), "<u2").reshape(columns, 4)
    marks = low + span / 65535 * quartiles
    codes = np.frombuffer(take(rows * columns), "u1").reshape(columns, rows)
    # Codes 0, 64, 192 and 255 are the minimum, the quartiles and the maximum of the column.
    matrix = [np.interp(codes[c], (0, 64, 192, 255), marks[c]) for c in range(columns)]
    return np.array(matrix, np.float32).reshape(columns, rows).T
