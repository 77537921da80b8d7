"""Shards opened where they lie: local files, and addresses of a few kinds, by fsspec.

A list of shards comes from elsewhere, and fsspec does far more than fetch: its chains
(`a://x::b://y`) read files within files, and the protocol `reference` fills in templates that the
file at the other end states, which from 2024.10 to 2026.4 could run any command. So only those
protocols are let through that read the bytes of one file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from asr.errors import DataError
from asr.files import open_regular

PROTOCOLS = frozenset(
    ("abfs", "abfss", "az", "file", "gcs", "gs", "hf", "http", "https", "memory", "s3")
)
"""What an address may begin with."""

_BUFFER = 2**20  # bytes


def is_address(location: str) -> bool:
    """Whether a location is an address, and not the path of a local file."""
    return "://" in location


@contextmanager
def open_shard(location: str) -> Iterator[IO[bytes]]:
    """The bytes of a shard, as they are stored.

    Args:
        location: a path, or an address with one of `PROTOCOLS`.

    Raises:
        DataError: missing or unreadable, another protocol, or a chain of addresses.
    """
    try:
        local = location.removeprefix("file://")
        if "::" not in location and not is_address(local):
            with open_regular(Path(local), _BUFFER) as file:
                yield file
            return
        _check_address(location)
        import fsspec

        with fsspec.open(location, "rb") as file:
            yield file
    except ImportError as error:
        raise DataError(f"{location}: {error}; pip install fsspec and what it asks for") from error
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"{location}: {cause}") from error


def _check_address(location: str) -> None:
    if "::" in location:
        raise DataError(f"{location}: a chain of addresses (`::`) is not opened; name the tar file")
    protocol = location.partition("://")[0]
    if protocol not in PROTOCOLS:
        raise DataError(
            f"{location}: {protocol}:// is not opened; copy the shard, or name it by one of "
            f"{', '.join(sorted(PROTOCOLS - {'memory'}))}"
        )
