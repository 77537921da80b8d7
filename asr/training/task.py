"""What a run does: the network that learns, what it learns from, and what it is scored on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from asr.config import Config
from asr.corpus import PackedCorpus
from asr.errors import DataError
from asr.model import Network, features
from asr.text import TokenTable, build_tokens
from asr.training.batch import Examples
from asr.training.checkpoints import require_space
from asr.training.feasibility import find_infeasible, write_infeasible
from asr.training.inputs import measure_statistics
from asr.training.processes import Place
from asr.training.schedule import Schedule
from asr.training.targets import encode_texts, texts_of


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
    """Utterances that are learnt from."""


def prepare_task(
    train_set: PackedCorpus,
    dev_set: PackedCorpus,
    config: Config,
    place: Place,
    pronunciations: Path | None,
) -> Task:
    """Build the tokens and the network, leave out what cannot be learnt, and plan all steps.

    Raises:
        DataError: a transcript has characters without a token, or no utterance can be learnt.
        TrainingError: no room on the disk.
    """
    tokens = build_tokens(texts_of(train_set), config.tokens, pronunciations)
    tokens.check(texts_of(dev_set), "dev set")
    targets = encode_texts(train_set, tokens)
    torch.manual_seed(config.training.seed)
    network = Network(config, len(tokens))
    rows = _feasible_rows(train_set, targets, network, place)
    if config.features.normalization in features.BY_TRAINING_SET:
        everything = measure_statistics(train_set, config.features, [""] * len(train_set))
        network.frontend.set_statistics(*torch.from_numpy(everything.values[0]))
    if config.features.normalization == "speaker":
        train_set, dev_set = (_by_speaker(part, config) for part in (train_set, dev_set))
    _require_space(network, len(rows), config, place)
    examples = Examples.of(train_set, targets, config)
    return Task(
        config=config,
        tokens=tokens,
        network=network,
        examples=examples,
        dev=Examples.of(dev_set, encode_texts(dev_set, tokens), config),
        schedule=Schedule(examples, rows, config.training, place.scratch),
        num_feasible=len(rows),
    )


def _feasible_rows(
    corpus: PackedCorpus, targets: Sequence[Sequence[int]], network: Network, place: Place
) -> NDArray[np.int64]:
    """The utterances that CTC can learn; the others are listed."""
    infeasible = find_infeasible(corpus, targets, network)
    if place.is_first:
        write_infeasible(infeasible, place.folder / "infeasible.tsv")
    if infeasible:
        place.report(
            f"{len(infeasible)} of {len(corpus)} utterances are left out: their text is longer "
            f"than their audio can spell (infeasible.tsv)"
        )
    rows = np.delete(np.arange(len(corpus)), [utterance.row for utterance in infeasible])
    if not len(rows):
        raise DataError("no utterance can be learnt: see infeasible.tsv; lower encoder.subsampling")
    return rows


def _by_speaker(corpus: PackedCorpus, config: Config) -> PackedCorpus:
    """The corpus with the statistics of its speakers' features."""
    speakers = measure_statistics(corpus, config.features, corpus.column("speaker"))
    return replace(corpus, speakers=speakers)


def _require_space(network: Network, num_rows: int, config: Config, place: Place) -> None:
    size = 4 * sum(tensor.numel() for tensor in network.state_dict().values())
    plans = Schedule.num_bytes(num_rows, config.training.epochs)
    # Three checkpoints, each with gradient moments and average; best weights and the model.
    require_space(place.scratch, 3 * 4 * size + 2 * size + plans)
