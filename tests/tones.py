"""A language of two words, each a tone: a corpus that a small network learns in seconds.

What it learns to the last bit depends on the processor. So tests of texts need a network that is
certain of them: `assert_certain` says by how much.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.config import Config
from asr.corpus.manifest import Utterance

if TYPE_CHECKING:
    from asr.text.tokens import TokenTable
    from asr.transcription.recognizer import Recognizer

RATE = 8000
TONES = {"la": 440.0, "mi": 1200.0}

CONFIG = Config.model_validate(
    {
        "features": {"sample_rate": RATE, "num_mel_bins": 20},
        "encoder": {
            "hidden_size": 24,
            "num_layers": 1,
            "conv_channels": 24,
            "subsampling": 2,
            "dropout": 0.1,
        },
        # A mask that hid a whole word would leave it uncertain.
        "augment": {
            "speeds": [0.95, 1.0],
            "noise_probability": 0.5,
            "time_masks": 1,
            "time_mask_width": 8,
        },
        "training": {"epochs": 40, "batch_seconds": 5, "learning_rate": 0.02},
    }
)


def write_corpus(
    folder: Path, num_utterances: int, seed: int, longest_pause: float = 0.1
) -> list[Utterance]:
    """Utterances of one to four words, with a little noise.

    Pauses last 0.1 s, or, in every second utterance, up to `longest_pause` seconds.
    """
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    utterances = []
    for index in range(num_utterances):
        words = random.choice(list(TONES), random.integers(1, 5))
        longest = longest_pause if index % 2 else 0.1
        parts = [np.zeros(800)]
        for word in words:
            time = np.arange(random.integers(1200, 2000)) / RATE
            pause = np.zeros(800 if longest == 0.1 else int(random.uniform(0.1, longest) * RATE))
            parts += [0.3 * np.sin(2 * np.pi * TONES[word] * time), pause]
        samples = np.concatenate(parts)
        samples += 0.003 * random.standard_normal(len(samples))
        path = folder / f"{index}.wav"
        soundfile.write(path, samples, RATE)
        utterances.append(
            Utterance(
                id=f"{folder.name}-{index}",
                audio_filepath=path,
                duration=len(samples) / RATE,
                text=" ".join(words),
                speaker=f"speaker{index % 3}",
            )
        )
    return utterances


MARGIN = 1.0
"""By which the networks that tests train are certain, in nats.

With six seeds in place of one, the tones' was so by 2 and more."""


def readings(log_probs: NDArray[np.float32], tokens: "TokenTable", margin: float) -> set[str]:
    """Texts that best paths read if each step may take any token within `margin` of the best.

    One text means: it stays as it is, whatever log-probabilities change by up to half of that.
    """
    space = tokens.symbols.index(" ") if " " in tokens.symbols else -1
    paths: set[tuple[tuple[int, ...], int]] = {((), 0)}  # what is read, and the last step's token
    for row in log_probs:
        near = [int(token) for token in np.flatnonzero(row >= row.max() - margin)]
        paths = {
            (
                text if token in (0, last) or text[-1:] == (token,) == (space,) else (*text, token),
                token,
            )
            for text, last in paths
            for token in near
        }
        assert len(paths) <= 64, f"more than 64 readings within {margin} nats"
    return {" ".join(tokens.decode(list(text)).split()) for text, _ in paths}


def assert_certain(
    recognizer: "Recognizer",
    utterances: Iterable[Utterance],
    margin: float = MARGIN,
    *,
    spaces: bool = True,
) -> None:
    """Each utterance has one reading within the margin, and it is the text.

    Without `spaces`, it is so but for them.
    """
    for utterance, parts in recognizer.score_utterances(utterances):
        assert isinstance(parts, list), parts
        texts = {""}
        for log_probs in parts:
            heard = readings(log_probs, recognizer.tokens, margin)
            texts = {f"{text} {more}".strip() for text in texts for more in heard}
        expected = utterance.text or ""
        if not spaces:
            expected, texts = expected.replace(" ", ""), {text.replace(" ", "") for text in texts}
        assert texts == {expected}, (
            f"{utterance.id}: {expected!r} is not all that the trained network reads "
            f"within {margin} nats, but {texts}: train it longer, or on an easier task"
        )
