"""How well a network does on the dev set while it is trained: greedy decoding, unaugmented."""

from dataclasses import dataclass, replace

import torch
from lightning.fabric import Fabric

from asr.batches import plan_batches
from asr.decoding import greedy
from asr.model import Network, ctc_loss
from asr.scoring import ErrorCounts, UtteranceScore, score
from asr.text import TokenTable
from asr.training.batch import Examples, send
from asr.training.inputs import input_features
from asr.training.processes import gather


@dataclass(frozen=True, kw_only=True, slots=True)
class DevScores:
    """Of the whole dev set."""

    words: ErrorCounts
    characters: ErrorCounts
    loss: float
    """Nats a token."""
    utterances: tuple[UtteranceScore, ...]
    """All utterances, those with the lowest character error rate first."""

    @property
    def row(self) -> dict[str, float]:
        """Columns of the history."""
        empty = sum(not utterance.hypothesis for utterance in self.utterances)
        return {
            "dev_wer": self.words.rate or 0.0,
            "dev_cer": self.characters.rate or 0.0,
            "dev_loss": self.loss,
            "dev_empty": 100 * empty / max(1, len(self.utterances)),
        }

    def examples(self, count: int) -> list[UtteranceScore]:
        """`count` utterances spread from the best to the worst; three are best, median, worst."""
        if count <= 1 or len(self.utterances) <= count:
            return list(self.utterances[:count])
        last = len(self.utterances) - 1
        return [self.utterances[round(place * last / (count - 1))] for place in range(count)]


def score_dev(
    network: Network, examples: Examples, tokens: TokenTable, fabric: Fabric
) -> DevScores:
    """Score a network on the dev set.

    Processes share the batches; the outcome is that of one process, to the bit.
    """
    share: list[tuple[int, float, str]] = []  # row, loss, hypothesis
    network.eval()
    plan = plan_batches(examples.corpus.lengths, examples.budget)
    for rows in plan[fabric.global_rank :: fabric.world_size]:
        batch = examples.batch(rows).to(fabric.device)
        with torch.inference_mode():
            features, num_frames = input_features(network.frontend, batch)
            log_probs, _ = network.encoder(features, send(num_frames, features.device))
            num_steps = network.encoder.num_steps(num_frames)
            targets = send(batch.targets, features.device)
            losses = ctc_loss(log_probs, num_steps, targets, batch.num_tokens).cpu()
        values = log_probs.cpu().numpy()
        share += [
            (row, loss, tokens.decode(greedy(steps[:count]).tokens))
            for row, loss, steps, count in zip(
                rows.tolist(), losses.tolist(), values, num_steps.tolist(), strict=True
            )
        ]
    rows_in_order = sorted(gather(fabric, share))
    scores = score(
        {str(row): tokens.decode(examples.targets[row]) for row, _, _ in rows_in_order},
        {str(row): hypothesis for row, _, hypothesis in rows_in_order},
    )
    utterances = [
        replace(scored, id=utterance.id)
        for scored, utterance in zip(scores.utterances, examples.corpus.utterances, strict=True)
    ]
    num_tokens = sum(map(len, examples.targets))
    return DevScores(
        words=scores.words,
        characters=scores.characters,
        loss=sum(loss for _, loss, _ in rows_in_order) / max(1, num_tokens),
        utterances=tuple(
            sorted(utterances, key=lambda each: (each.characters.rate or 0.0, each.id))
        ),
    )
