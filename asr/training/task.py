"""What a run does: the network that learns, what it learns from, and what it is scored on."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asr.config import Config
from asr.corpus import PackedCorpus, packed
from asr.errors import DataError
from asr.model import Network, features
from asr.text import TokenTable, build_tokens
from asr.training.batch import Examples
from asr.training.checkpoints import require_space
from asr.training.encoded import Encoded, keep_encoded, open_encoded, origin_of
from asr.training.feasibility import find_infeasible, write_infeasible
from asr.training.inputs import measure_statistics
from asr.training.processes import Place
from asr.training.replay import Replay, count_more
from asr.training.schedule import Schedule
from asr.training.source import TABLE, StartingModel, id_digests, keep_source
from asr.training.targets import encode_texts, texts_of
from asr.training.transfer import TokenMatch, choose_tokens, transfer_weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What a run does, all of it known before the first step."""

    config: Config
    tokens: TokenTable
    network: Network
    """With its first weights."""
    examples: Examples
    dev: Examples
    schedule: Schedule
    num_feasible: int
    """Utterances that are learnt from in every epoch."""
    origin: Mapping[str, Any] | None
    """What `training.json` says of the model that the network's first weights are from."""


def prepare_task(
    train_set: PackedCorpus,
    dev_set: PackedCorpus,
    config: Config,
    place: Place,
    pronunciations: Path | None,
    replay_set: PackedCorpus | None = None,
    more_sets: Sequence[PackedCorpus] = (),
) -> Task:
    """Build the tokens and the network, leave out what cannot be learnt, and plan all steps.

    Raises:
        DataError: a transcript has characters without a token, or no utterance can be learnt.
        TrainingError: no room on the disk.
    """
    source = keep_source(config, place)
    parts = [train_set, *more_sets, *([] if replay_set is None else [replay_set])]
    ends = np.cumsum([len(part) for part in parts])
    train_set = functools.reduce(packed.join_packed, parts)
    origin = origin_of(train_set, config)
    encoded = open_encoded(origin, place.scratch)
    if encoded is not None:
        tokens = encoded.tokens
    elif source is None:
        tokens = build_tokens(texts_of(train_set), config.tokens, pronunciations)
    else:
        texts = functools.partial(texts_of, train_set)
        tokens = choose_tokens(source.model.tokens, texts, config, pronunciations)
    tokens.check(texts_of(dev_set), "dev set")
    torch.manual_seed(config.training.seed)
    network = Network(config, len(tokens))
    if source is not None:
        _start_from(source, network, tokens, place)
        _check_dev_set(source, dev_set, place)
    if encoded is None:
        encoded = _encode(train_set, tokens, network, place)
        if place.is_first:
            keep_encoded(encoded, origin, place.scratch)
    if num_infeasible := len(train_set) - len(encoded.rows):
        place.report(
            f"{num_infeasible} of {len(train_set)} utterances are left out: their text is longer "
            "than their audio can spell (infeasible.tsv)"
        )
    rows, *others = np.split(encoded.rows, np.searchsorted(encoded.rows, ends[:-1]))
    draws = _plan_draws(len(rows), others, config, place)
    if source is None and config.features.normalization in features.BY_TRAINING_SET:
        everything = measure_statistics(train_set, config.features, [""] * len(train_set))
        network.frontend.set_statistics(*torch.from_numpy(everything.values[0]))
    if config.features.normalization == "speaker":
        train_set, dev_set = (_by_speaker(part, ends, config) for part in (train_set, dev_set))
    _require_space(network, len(rows) + sum(draw.count for draw in draws), config, place)
    examples = Examples.of(train_set, encoded.targets, config)
    return Task(
        config=config,
        tokens=tokens,
        network=network,
        examples=examples,
        dev=Examples.of(dev_set, encode_texts(dev_set, tokens), config),
        schedule=Schedule(
            examples,
            rows,
            config.training,
            place.scratch,
            draws,
            rank=place.fabric.global_rank,
            world_size=place.fabric.world_size,
        ),
        num_feasible=len(rows),
        origin=None if source is None else source.origin(),
    )


def _start_from(source: StartingModel, network: Network, tokens: TokenTable, place: Place) -> None:
    """Take over the weights of another model, and say what became of its tokens."""
    match = TokenMatch(source.model.tokens.symbols, tokens.symbols)
    transfer_weights(source.network, network, match)
    if place.is_first:
        match.write(place.folder / TABLE)
    place.report(f"starting from {source.name} ({source.hash}): tokens {match.summary()}")
    if match.is_foreign:
        place.report(
            f"warning: none of the letters of {source.name} is among those of the transcripts: "
            f"all that is written is learnt anew ({TABLE})"
        )


def _check_dev_set(source: StartingModel, dev_set: PackedCorpus, place: Place) -> None:
    """Say if the model before has learnt what now chooses the epoch."""
    ids = id_digests(utterance.id for utterance in dev_set.utterances)
    count = int(np.isin(ids, source.learnt).sum())
    if count:
        place.report(
            f"warning: {source.name} has learnt {count} of the {len(ids)} dev utterances, by their "
            "ids: its dev error rate is too good, and epoch 0 is kept too easily"
        )


def _plan_draws(
    num_rows: int, others: Sequence[NDArray[np.int64]], config: Config, place: Place
) -> list[Replay]:
    """What each epoch has besides the training set's own rows.

    Args:
        num_rows: of these.
        others: rows of further speech, in the order of `training.more`; then of the old domain.
    """
    settings = config.training
    more = others[: len(settings.more)]
    names = [f"training.more.{number}" for number in range(len(more))]
    for name, rows in zip([*names, "training.init.replay"], others, strict=False):
        if not num_rows or not len(rows):
            which = name if num_rows else "the training set"
            raise DataError(f"no utterance of {which} can be learnt: see infeasible.tsv")
    counts = count_more(num_rows, [len(rows) for rows in more], settings.more)
    draws = [
        Replay(rows=rows, count=count, seed=settings.seed)
        for rows, count in zip(more, counts, strict=True)
    ]
    for part, draw in zip(settings.more, draws, strict=True):
        place.report(
            f"{part.manifest}: {draw.count} draws from {len(draw.rows)} utterances are added to "
            f"the {num_rows} of an epoch"
        )
    num_new = num_rows + sum(counts)
    if len(others) > len(more):
        draw = Replay.of(others[-1], num_new, settings.init.replay_share, settings.seed)
        place.report(
            f"replay: {draw.count} of {len(draw.rows)} utterances are added to the {num_new} of an "
            "epoch"
        )
        draws.append(draw)
    return draws


def _encode(corpus: PackedCorpus, tokens: TokenTable, network: Network, place: Place) -> Encoded:
    """Targets of all utterances, and those that CTC can learn; the others are listed."""
    targets = encode_texts(corpus, tokens)
    infeasible = find_infeasible(corpus, targets, network)
    if place.is_first:
        write_infeasible(infeasible, place.folder / "infeasible.tsv")
    rows = np.delete(np.arange(len(corpus)), [utterance.row for utterance in infeasible])
    if not len(rows):
        raise DataError("no utterance can be learnt: see infeasible.tsv; lower encoder.subsampling")
    return Encoded(tokens=tokens, targets=targets, rows=rows)


def _by_speaker(corpus: PackedCorpus, ends: NDArray[np.int64], config: Config) -> PackedCorpus:
    """The corpus with the statistics of its speakers' features.

    Args:
        ends: rows where its parts end; a speaker of one is none of the others', whatever the name.
    """
    parts = np.searchsorted(ends, np.arange(len(corpus)), side="right").tolist()
    names = zip(parts, corpus.column("speaker"), strict=True)
    keys = (None if name is None else (part, name) for part, name in names)
    speakers = measure_statistics(corpus, config.features, keys)
    return replace(corpus, speakers=speakers)


def _require_space(network: Network, num_rows: int, config: Config, place: Place) -> None:
    size = 4 * sum(tensor.numel() for tensor in network.state_dict().values())
    plans = Schedule.num_bytes(num_rows, config.training.epochs)
    # Three checkpoints, each with gradient moments and average; best weights and the model.
    require_space(place.scratch, 3 * 4 * size + 2 * size + plans)
