"""LSTM language models: which word or character comes next, given all before it.

Embedding, LSTM layers, and an output layer that shares the embedding's weights (Press and Wolf
2017, "Using the output embedding to improve language models"). Stored as a folder: `config.yaml`,
`words.txt`, `weights.safetensors`.

Dimension names: batch (sentences), step (words of a sentence), word (the vocabulary).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import nll_loss

from asr.config import NEURAL_LM_FILES, NeuralLmConfig
from asr.config_files import load_config, write_config
from asr.errors import AsrError, DataError, ModelError, opens_model
from asr.files import check_regular, read_file
from asr.folders import replace_folder
from asr.lm.ngram import END_ID, START_ID, UNKNOWN_ID, Perplexity
from asr.lm.sentences import END, SPACE, START, UNKNOWN
from asr.progress import Report
from asr.tensors import MisfitError, check_shapes

_IGNORED = -1  # in place of a target, after a sentence's end
_MOST_STEPS = 64  # that the gradient goes back (truncated backpropagation through time)
_UNKNOWN_SHARE = 0.5  # of the words seen once that stand for unknown ones, in an epoch
_POOL = 50  # batches whose sentences are sorted by length together
_CLIP_NORM = 1.0
_NUM_SCORED = 256  # sentences side by side
_LN10 = 2.302585092994046


class NeuralLm(nn.Module):
    """An LSTM language model and its vocabulary."""

    def __init__(self, words: Sequence[str], config: NeuralLmConfig):
        super().__init__()
        self.words = tuple(words)
        """By word id: `<unk>`, `<s>`, `</s>`, then all others."""
        self.config = config
        self._ids = {word: index for index, word in enumerate(self.words)}
        size = config.hidden_size
        self.embedding = nn.Embedding(len(words), size)
        self.lstm = nn.LSTM(size, size, config.num_layers, batch_first=True)
        self.bias = nn.Parameter(torch.zeros(len(words)))
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, words: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Log-probabilities [batch, step, word] of what follows each word, and the state after.

        Args:
            words: [batch, step] word ids.
            state: of the words before; none at a sentence's beginning.
        """
        outputs, state = self.lstm(self.dropout(self.embedding(words)), state)
        scores = self.dropout(outputs) @ self.embedding.weight.T + self.bias
        # A sentence begins once.
        scores[..., START_ID] = -torch.inf
        return scores.log_softmax(dim=-1), state

    def ids(self, sentence: Iterable[str]) -> list[int]:
        """Word ids; UNKNOWN_ID for a word that is not in the vocabulary."""
        return [self._ids.get(word, UNKNOWN_ID) for word in sentence]

    def word_log_probs(self, sentences: Sequence[Sequence[str]]) -> Iterator[Tensor]:
        """For each sentence the log-probability, in nats, of its words and of its end."""
        self.eval()
        for first in range(0, len(sentences), _NUM_SCORED):
            inputs, targets = _pad([self.ids(s) for s in sentences[first : first + _NUM_SCORED]])
            with torch.inference_mode():
                log_probs, _ = self(inputs)
                chosen = log_probs.gather(2, targets.clamp(min=0)[..., None])[..., 0]
            for row, answers in zip(chosen, targets, strict=True):
                yield row[answers != _IGNORED]

    def sentence_log_probs(self, sentences: Sequence[Sequence[str]]) -> list[float]:
        """Log-probability of each sentence with its end, in nats."""
        return [float(values.double().sum()) for values in self.word_log_probs(sentences)]


def train_neural_lm(
    sentences: Iterable[Sequence[str]], config: NeuralLmConfig, report: Report
) -> NeuralLm:
    """Train on sentences without `<s>` and `</s>`; the same seed gives the same model.

    Raises:
        DataError: there is no sentence.
    """
    kept = [list(sentence) for sentence in sentences if sentence]
    if not kept:
        raise DataError("no sentence to learn from")
    counts = Counter(word for sentence in kept for word in sentence)
    listed = sorted(counts.keys() - {UNKNOWN, START, END})
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = NeuralLm((UNKNOWN, START, END, *listed), config)
        nn.init.normal_(model.embedding.weight, std=config.hidden_size**-0.5, generator=generator)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
        rows = [torch.tensor(model.ids(sentence)) for sentence in kept]
        rare = torch.tensor([counts[word] == 1 for word in model.words])
        num_batches = -(-len(rows) // config.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, config.epochs * num_batches
        )
        model.train()
        for epoch in range(1, config.epochs + 1):
            total = 0.0
            for batch in _batches(rows, config.batch_size, generator):
                hidden = [_hide(row, rare, generator) for row in batch]
                total += _learn(model, optimizer, *_pad([row.tolist() for row in hidden]))
                schedule.step()
            num_units = sum(map(len, rows)) + len(rows)
            report(f"epoch {epoch}/{config.epochs}: {total / num_units:.3f} nats a {config.unit}")
    return model.eval()


def sample(
    model: NeuralLm, seed: int, *, temperature: float = 1.0, longest: int = 1000
) -> Iterator[str]:
    """Sentences drawn from the model, without end; the same seed draws the same.

    Args:
        temperature: divides log-probabilities; below 1 what is probable becomes more so.
        longest: units after which a sentence is cut off.
    """
    generator = torch.Generator().manual_seed(seed)
    model.eval()
    while True:
        words: list[str] = []
        last, state = START_ID, None
        while len(words) < longest:
            with torch.inference_mode():
                log_probs, state = model(torch.tensor([[last]]), state)
            weights = (log_probs[0, 0] / temperature).softmax(dim=0)
            last = int(torch.multinomial(weights, 1, generator=generator))
            if last == END_ID:
                break
            words.append(model.words[last])
        if model.config.unit == "word":
            yield " ".join(words)
        else:
            yield "".join(" " if word == SPACE else word for word in words)


def neural_perplexity(model: NeuralLm, sentences: Iterable[Sequence[str]]) -> Perplexity:
    """As `language_model.perplexity`.

    Raises:
        DataError: there is no sentence.
    """
    kept = [sentence for sentence in sentences if sentence]
    if not kept:
        raise DataError("no sentence to score")
    known_log_prob = oov_log_prob = 0.0
    oov: Counter[str] = Counter()
    for sentence, values in zip(kept, model.word_log_probs(kept), strict=True):
        ids = torch.tensor([*model.ids(sentence), END_ID])
        oov.update(w for w, i in zip(sentence, ids.tolist(), strict=False) if i == UNKNOWN_ID)
        known_log_prob += float(values[ids != UNKNOWN_ID].double().sum())
        oov_log_prob += float(values[ids == UNKNOWN_ID].double().sum())
    return Perplexity(
        num_sentences=len(kept),
        num_words=sum(map(len, kept)),
        known_log_prob=known_log_prob / _LN10,
        oov_log_prob=oov_log_prob / _LN10,
        oov=oov,
    )


def save_neural_lm(model: NeuralLm, folder: Path) -> None:
    """Write the folder, whole or not at all; a language model that is there is replaced.

    Raises:
        AsrError: there is something else.
    """
    with replace_folder(folder, NEURAL_LM_FILES) as fresh:
        write_config(model.config, fresh / "config.yaml")
        (fresh / "words.txt").write_bytes("\n".join(model.words).encode())
        weights = {name: value.contiguous() for name, value in model.state_dict().items()}
        (fresh / "weights.safetensors").write_bytes(safetensors.torch.save(weights))


@opens_model
def load_neural_lm(folder: Path) -> NeuralLm:
    """Read what `save_neural_lm` wrote.

    Raises:
        ModelError: a file is missing, damaged or does not fit the others.
    """
    try:
        config = load_config(folder / "config.yaml", NeuralLmConfig)
        words = read_file(folder / "words.txt").decode().split("\n")
        weights = check_regular(folder / "weights.safetensors")
        with torch.device("meta"):  # takes no memory
            expected = NeuralLm(words, config).state_dict()
        check_shapes(weights, {name: tensor.shape for name, tensor in expected.items()})
        model = NeuralLm(words, config)
        model.load_state_dict(safetensors.torch.load_file(weights))
    except MisfitError as error:
        raise ModelError(f"{folder}: the weights do not fit the other files: {error}") from error
    except (AsrError, OSError, UnicodeDecodeError, safetensors.SafetensorError) as error:
        raise ModelError(f"{folder}: the language model cannot be read: {error}") from error
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(f"{folder}: the weights do not fit the other files: {reason}") from error
    return model.eval().requires_grad_(False)


def _learn(
    model: NeuralLm, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor
) -> float:
    """Take a step for each stretch of a batch; its loss in nats."""
    total, state = 0.0, None
    for first in range(0, inputs.shape[1], _MOST_STEPS):
        stretch = slice(first, first + _MOST_STEPS)
        answers = targets[:, stretch].flatten()
        log_probs, state = model(inputs[:, stretch], state)
        state = (state[0].detach(), state[1].detach())
        loss = nll_loss(log_probs.flatten(0, 1), answers, ignore_index=_IGNORED, reduction="sum")
        optimizer.zero_grad()
        (loss / (answers != _IGNORED).sum()).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), _CLIP_NORM)
        optimizer.step()
        total += float(loss.detach())
    return total


def _batches(
    rows: Sequence[Tensor], size: int, generator: torch.Generator
) -> Iterator[list[Tensor]]:
    """All rows in a new order, those of similar length together."""
    order = torch.randperm(len(rows), generator=generator).tolist()
    for first in range(0, len(order), _POOL * size):
        pool = sorted(order[first : first + _POOL * size], key=lambda row: len(rows[row]))
        parts = [pool[place : place + size] for place in range(0, len(pool), size)]
        for part in torch.randperm(len(parts), generator=generator).tolist():
            yield [rows[row] for row in parts[part]]


def _hide(row: Tensor, rare: Tensor, generator: torch.Generator) -> Tensor:
    """Some of the rare words as `<unk>`, so that it is learnt what surrounds such a word."""
    drawn = torch.rand(len(row), generator=generator) < _UNKNOWN_SHARE
    return torch.where(rare[row] & drawn, UNKNOWN_ID, row)


def _pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Inputs, which begin with `<s>`, and targets, which end with `</s>`: [batch, step] each."""
    length = max(map(len, rows)) + 1
    inputs = torch.full((len(rows), length), END_ID)
    targets = torch.full((len(rows), length), _IGNORED)
    inputs[:, 0] = START_ID
    for place, row in enumerate(rows):
        inputs[place, 1 : len(row) + 1] = torch.tensor(row, dtype=torch.long)
        targets[place, : len(row)] = torch.tensor(row, dtype=torch.long)
        targets[place, len(row)] = END_ID
    return inputs, targets
