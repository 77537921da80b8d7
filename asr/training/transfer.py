"""From a model's weights to those that a fine-tuning begins with: all of them, token by token."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from asr.config import Config
from asr.files import open_atomic
from asr.model import Network
from asr.text import TokenTable, build_tokens
from asr.text import tokens as token_tables

_LOWERED = 2.0  # nats, of a new token's bias: rare until it is learnt
_LETTERLESS = frozenset(
    {" ", token_tables.WORD_START, "<unk>"}
)  # what tables of all languages have
_OUTPUT = ("encoder.output.weight", "encoder.output.bias")  # what depends on the tokens
_SHOWN = 5


@dataclass(frozen=True)
class TokenMatch:
    """The symbols of a model, and of the one that starts from it."""

    old: Sequence[str]
    new: Sequence[str]

    @cached_property
    def rows(self) -> list[int | None]:
        """For each new symbol its id in the old model, where it has one."""
        ids = {symbol: token for token, symbol in enumerate(self.old)}
        return [ids.get(symbol) for symbol in self.new]

    @property
    def copied(self) -> list[str]:
        """What both have, without the blank."""
        return [s for s, row in zip(self.new, self.rows, strict=True) if row is not None][1:]

    @property
    def added(self) -> list[str]:
        """What the new one alone has."""
        return [s for s, row in zip(self.new, self.rows, strict=True) if row is None]

    @property
    def dropped(self) -> list[str]:
        """What the old one alone has."""
        kept = {*self.new}
        return [symbol for symbol in self.old if symbol not in kept]

    @property
    def is_foreign(self) -> bool:
        """Whether they have nothing in common that a word could be written with."""
        return {*self.copied} <= _LETTERLESS

    def summary(self) -> str:
        """In a line."""
        parts = {"copied": self.copied, "new": self.added, "dropped": self.dropped}
        named = ("new", "dropped")
        return ", ".join(
            f"{len(symbols)} {what}{_some(symbols) if what in named else ''}"
            for what, symbols in parts.items()
        )

    def write(self, path: Path) -> None:
        """A table: each symbol, what became of it, and its ids in the old and the new model."""
        ids = {symbol: token for token, symbol in enumerate(self.old)}
        lines = [
            f"{_shown(symbol)}\t{'new' if row is None else 'copied'}\t{_id(row)}\t{token}\n"
            for token, (symbol, row) in enumerate(zip(self.new, self.rows, strict=True))
        ]
        lines += [f"{_shown(symbol)}\tdropped\t{ids[symbol]}\t\n" for symbol in self.dropped]
        with open_atomic(path) as file:
            file.write("token\tfate\told\tnew\n")
            file.writelines(lines)


def choose_tokens(
    source: TokenTable,
    texts: Callable[[], Iterable[str]],
    config: Config,
    pronunciations: Path | None,
) -> TokenTable:
    """The tokens of a model that starts from another one.

    With `training.init.keep_tokens` these are the other one's where they spell the texts.
    Characters that they lack are added; byte-pair units are learnt anew then, since none can be
    added, and so are characters if the other one's are of another script. Phones are those of the
    pronunciations.

    Args:
        texts: the transcripts, each time that it is called.

    Raises:
        DataError: as `build_tokens`.
    """
    kind = config.tokens.kind
    is_kept = config.training.init.keep_tokens and kind != "phones"
    if is_kept and not source.count_unknown(texts()):
        return source
    table = build_tokens(texts(), config.tokens, pronunciations)
    if not is_kept or kind != "characters" or TokenMatch(source.symbols, table.symbols).is_foreign:
        return table
    added = [symbol for symbol in table.symbols if symbol not in source.symbols]
    return TokenTable((*source.symbols, *added))


def transfer_weights(source: Network, network: Network, match: TokenMatch) -> None:
    """Give `network` the weights of `source`, and what it normalizes features with.

    The output's rows go by symbol. A new symbol gets the mean of all rows but the blank's, with a
    bias that is lowered by 2 nats.
    """
    weights = dict(source.state_dict())
    for name in _OUTPUT:
        rows = weights[name]
        mean = rows[1:].mean(dim=0)
        fresh = mean - _LOWERED if rows.ndim == 1 else mean
        weights[name] = torch.stack([fresh if row is None else rows[row] for row in match.rows])
    network.load_state_dict(weights)


def _some(symbols: Sequence[str]) -> str:
    if not symbols:
        return ""
    more = ", ..." if len(symbols) > _SHOWN else ""
    return f" ({', '.join(map(_shown, symbols[:_SHOWN]))}{more})"


def _shown(symbol: str) -> str:
    return "<space>" if symbol == " " else symbol


def _id(row: int | None) -> str:
    return "" if row is None else str(row)
