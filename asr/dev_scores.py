"""How well a network does on the dev set while it is trained: greedy decoding, unaugmented."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from asr.batches import plan_batches
from asr.ctc import ctc_loss
from asr.data import PackedCorpus
from asr.decoding import greedy
from asr.inputs import input_features
from asr.network import Network
from asr.scoring import ErrorCounts, count_errors
from asr.tokens import TokenTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """An utterance of the dev set and what was made of it."""

    id: str
    reference: str
    hypothesis: str
    characters: ErrorCounts


@dataclass(frozen=True, kw_only=True, slots=True)
class DevScores:
    """Of the whole dev set."""

    words: ErrorCounts
    characters: ErrorCounts
    loss: float
    """Nats a token."""
    samples: tuple[Sample, ...]
    """All utterances, those with the lowest character error rate first."""

    @property
    def row(self) -> dict[str, float]:
        """Columns of the history."""
        empty = sum(not sample.hypothesis for sample in self.samples)
        return {
            "dev_wer": self.words.rate or 0.0,
            "dev_cer": self.characters.rate or 0.0,
            "dev_loss": self.loss,
            "dev_empty": 100 * empty / max(1, len(self.samples)),
        }

    def examples(self, count: int) -> list[Sample]:
        """`count` utterances spread from the best to the worst; three are best, median, worst."""
        if count <= 1 or len(self.samples) <= count:
            return list(self.samples[:count])
        last = len(self.samples) - 1
        return [self.samples[round(place * last / (count - 1))] for place in range(count)]


def score_dev(
    network: Network,
    corpus: PackedCorpus,
    targets: Sequence[Sequence[int]],
    tokens: TokenTable,
    budget: int,
    device: torch.device,
) -> DevScores:
    """Score the corpus, in batches of at most `budget` padded samples or frames."""
    words = characters = ErrorCounts()
    loss = torch.zeros((), dtype=torch.double, device=device)
    samples = []
    network.eval()
    for rows in plan_batches(corpus.lengths, budget):
        batch = corpus.batch(rows.tolist(), targets).to(device)
        with torch.inference_mode():
            features, num_frames = input_features(network.frontend, batch)
            log_probs, num_steps = network.encoder(features, num_frames)
            loss += ctc_loss(log_probs, num_steps, batch.targets, batch.num_tokens).sum()
        outputs = zip(rows, log_probs.cpu().numpy(), num_steps.tolist(), strict=True)
        for row, values, steps in outputs:
            reference = tokens.decode(targets[row])
            hypothesis = tokens.decode(greedy(values[:steps]).tokens)
            words += count_errors(reference.split(), hypothesis.split())
            errors = count_errors(reference, hypothesis)
            characters += errors
            samples.append(
                Sample(
                    id=corpus.utterances[row].id,
                    reference=reference,
                    hypothesis=hypothesis,
                    characters=errors,
                )
            )
    samples.sort(key=lambda sample: (sample.characters.rate or 0.0, sample.id))
    num_tokens = sum(map(len, targets))
    return DevScores(
        words=words,
        characters=characters,
        loss=float(loss) / max(1, num_tokens),
        samples=tuple(samples),
    )
