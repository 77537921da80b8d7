"""Utterances that CTC cannot learn: their text is longer than their audio can spell."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from asr.ctc import required_steps
from asr.data import PackedCorpus
from asr.files import open_atomic
from asr.network import Network


@dataclass(frozen=True, kw_only=True, slots=True)
class Infeasible:
    """An utterance whose transcript does not fit into the steps of its audio."""

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
    steps = network.encoder.num_steps(frames).tolist()
    width = max([1, *map(len, targets)])
    padded = torch.tensor([[*target, *[0] * (width - len(target))] for target in targets])
    needed = required_steps(padded, torch.tensor([len(target) for target in targets])).tolist()
    return [
        Infeasible(id=u.id, seconds=u.duration, steps=steps[row], needed=needed[row])
        for row, u in enumerate(corpus.utterances)
        if steps[row] < needed[row] or steps[row] == 0
    ]


def write_infeasible(infeasible: Sequence[Infeasible], path: Path) -> None:
    """A table with a header; the header alone when there are none."""
    with open_atomic(path) as file:
        file.write("id\tseconds\tsteps\tneeded\n")
        for row in infeasible:
            file.write(f"{row.id}\t{row.seconds:.3f}\t{row.steps}\t{row.needed}\n")
