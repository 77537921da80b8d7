"""What may be set of a server, and the limits that keep one user from taking all of it."""

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

from asr.errors import ConfigError
from asr.files import read_file

_SHORTEST_KEY = 16  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerOptions:
    """Where a server listens, whom it answers, and how much of it one may have."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0 is any that is free."""
    allowed_hosts: tuple[str, ...] = ()
    """Names, besides addresses and `localhost`, by which it may be called."""
    key_digests: tuple[bytes, ...] = ()
    """Of the keys of which a request must bring one; none means that none is needed."""
    log_transcripts: bool = False
    prompt_weight: float = 2.0
    """In nats, of each word of a request's `prompt`; 0 has prompts without effect."""
    max_bytes: int = 100 * 2**20
    """Of a request's body."""
    max_seconds: float = 4 * 3600.0
    """Of audio, in a request or a live stream."""
    max_requests: int = 64
    """That are received, wait or are worked on at once; one more is refused."""
    max_running: int = 32
    """That are worked on at once."""
    max_streams: int = 16
    """That are live at once."""
    max_connections: int = 256
    body_seconds: float = 120.0
    """For a request's body to arrive."""
    idle_seconds: float = 30.0
    """For a request's headers to arrive, an answer to be taken, and a live stream's next audio."""
    stop_seconds: float = 60.0
    """For what runs to be finished when the server is told to stop."""

    @property
    def max_upload_bytes(self) -> int:
        """In temporary files, of all requests together."""
        return max(self.max_bytes, 2**31)

    @property
    def is_loopback(self) -> bool:
        """Whether no other machine can reach it."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def admits(self, key: str) -> bool:
        """Whether a key is one of those; the time that it takes tells nothing of them."""
        digest = _digest(key)
        # All of them are compared, whichever it is.
        return sum([hmac.compare_digest(digest, other) for other in self.key_digests]) > 0


def read_keys(path: Path) -> tuple[bytes, ...]:
    """The digests of the keys in a file, one a line.

    Raises:
        ConfigError: unreadable, no key in it, or one that can be guessed.
    """
    try:
        lines = read_file(path).decode().split("\n")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error
    keys = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    for number, key in keys:
        if len(key) < _SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                f"{path}:{number}: a key has at least {_SHORTEST_KEY} letters and digits and no "
                "spaces, as `openssl rand -hex 24` prints it"
            )
    if not keys:
        raise ConfigError(f"{path}: there is no key in it; write one a line")
    return tuple(_digest(key) for _, key in keys)


def check_reachable(options: ServerOptions, insecure: bool) -> None:
    """Refuse what others could use without a key, unless that is wanted.

    Raises:
        ConfigError: other machines can reach it, and nobody needs a key.
    """
    if not (options.is_loopback or options.key_digests or insecure):
        raise ConfigError(
            f"--host {options.host}: other machines could use it without a key; give "
            "--api-key-file FILE, or --insecure if everybody may"
        )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
