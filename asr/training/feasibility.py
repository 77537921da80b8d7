"""Utterances that CTC cannot learn: their text is longer than their audio can spell."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from asr.corpus import PackedCorpus
from asr.decoding import required_steps
from asr.files import open_atomic
from asr.model import Network

_CHUNK = 10_000  # utterances looked at together


@dataclass(frozen=True, kw_only=True, slots=True)
class Infeasible:
    """An utterance whose transcript does not fit into the steps of its audio."""

    row: int
    """Its place in the corpus."""
    id: str
    seconds: float
    steps: int
    needed: int


def find_infeasible(
    corpus: PackedCorpus, targets: Sequence[Sequence[int]], network: Network
) -> list[Infeasible]:
    """Utterances without a path through the steps that the network gives them; exact."""
    lengths = torch.from_numpy(corpus.lengths)
    frames = network.frontend.num_frames(lengths) if corpus.kind == "waveforms" else lengths
    steps = network.encoder.num_steps(frames)
    infeasible = []
    for start in range(0, len(corpus), _CHUNK):
        needed = _required_steps(targets[start : start + _CHUNK])
        given = steps[start : start + _CHUNK]
        for place in ((given < needed) | (given == 0)).nonzero().flatten().tolist():
            utterance = corpus.utterances[start + place]
            infeasible.append(
                Infeasible(
                    row=start + place,
                    id=utterance.id,
                    seconds=utterance.duration,
                    steps=int(given[place]),
                    needed=int(needed[place]),
                )
            )
    return infeasible


def _required_steps(targets: Sequence[Sequence[int]]) -> Tensor:
    width = max([1, *map(len, targets)])
    padded = torch.tensor([[*target, *[0] * (width - len(target))] for target in targets])
    return required_steps(padded, torch.tensor([len(target) for target in targets]))


def write_infeasible(infeasible: Sequence[Infeasible], path: Path) -> None:
    """A table with a header; the header alone when there are none."""
    with open_atomic(path) as file:
        file.write("id\tseconds\tsteps\tneeded\n")
        for row in infeasible:
            file.write(f"{row.id}\t{row.seconds:.3f}\t{row.steps}\t{row.needed}\n")
