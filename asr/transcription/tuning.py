"""Weights of a language model and the width of the beam, found on a dev set.

The dev set's log-probabilities are computed once. Weight and word bonus are searched at one beam,
on a grid and then in halving steps around the best; then other beams are tried with the best, and
last a neural language model's share.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from asr import lm as language_models
from asr import model
from asr.config import DecodingConfig
from asr.corpus import Utterance
from asr.decoding import (
    Decoder,
    DecodingOptions,
    Rescorer,
    options,
    read_decoder,
)
from asr.errors import DataError
from asr.files import open_atomic
from asr.progress import Report
from asr.scoring import ErrorCounts
from asr.text import normalize
from asr.transcription.calibration import Fit, store_fit
from asr.transcription.dev_set import DevSet, score_dev_set
from asr.transcription.recognizer import Recognizer

_log = logging.getLogger(__name__)

_WEIGHTS = (0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
_BONUSES = (-1.0, 0.0, 1.0, 2.0, 3.0, 4.0)
_STEPS = ((0.2, 0.5), (0.1, 0.25))  # of weight and bonus, around the best
_BEAMS = (8, 16, 32, 64)
_SHARES = tuple(tenth / 10 for tenth in range(1, 11))
_RESCORING_BEAM = 32  # at least
_BEAM = 16  # at which weights are searched


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What one choice of weights makes of the dev set."""

    lm_weight: float
    word_bonus: float
    beam: int
    neural_share: float = 0.0
    errors: ErrorCounts

    @property
    def rank(self) -> tuple[float, ...]:
        """Fewest errors first, then the least help: weight, bonus, beam, neural share."""
        help_given = (self.lm_weight, abs(self.word_bonus), self.beam, self.neural_share)
        return (self.errors.errors, *help_given)

    def describe(self) -> str:
        """In a line."""
        neural = f", neural share {self.neural_share:g}" if self.neural_share else ""
        return (
            f"dev WER {self.errors.rate:.2f} % with weight {self.lm_weight:g}, word bonus "
            f"{self.word_bonus:g}, beam {self.beam}{neural}"
        )

    def line(self) -> str:
        """Tab separated, as in `Tuning.table`."""
        values = (self.lm_weight, self.word_bonus, self.beam, self.neural_share)
        return _line(values, self.errors)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """All trials in their order, and what the best path gives."""

    trials: tuple[Trial, ...]
    best_path: ErrorCounts
    """Of phones, where the model writes phones."""
    fit: Fit
    """Of confidences, for the best."""

    @property
    def best(self) -> Trial:
        """The one with the fewest errors."""
        return min(self.trials, key=lambda trial: trial.rank)

    def table(self) -> str:
        """The trials, best first, tab separated, with a header; the best path last."""
        rows = [trial.line() for trial in sorted(self.trials, key=lambda trial: trial.rank)]
        header = "lm_weight\tword_bonus\tbeam\tneural_share\terrors\twer\n"
        return "".join([header, *rows, _line(("-", "-", 1, "-"), self.best_path)])

    def summary(self) -> str:
        """The best, and what confidences then mean: two lines."""
        best = f"{self.best.describe()}; best path {self.best_path.rate:.2f} %"
        return f"{best}\n{self.fit.summary}"


def tune(
    folder: Path,
    utterances: Sequence[Utterance],
    *,
    lm: Path | None,
    lexicon: Path | None,
    neural_lm: Path | None = None,
    device: str,
    report: Report,
) -> Tuning:
    """Find the weights for a model folder on a dev set and store them in it.

    Raises:
        ModelError: it is none, or a starter.
        DataError: an utterance cannot be read or has no text, or the language model or lexicon
            cannot be used.
    """
    folder = model.locate_model(folder)
    model.folder.check_is_own(folder)
    options.remove_decoding(folder)
    recognizer = Recognizer.load(folder, device=device)
    wanted = DecodingOptions(beam=_BEAM, lm=lm, lexicon=lexicon)
    decoder = read_decoder(folder, recognizer.tokens, wanted)
    for warning in decoder.warnings:
        _log.warning("%s", warning)
    if lexicon is not None and decoder.search is not None:
        spoken = {word for u in utterances for word in normalize(u.text or "").split()}
        if spoken and spoken.isdisjoint(decoder.search.lexicon.words):
            raise DataError(f"{lexicon}: it has no word of the dev set's texts")
    dev = score_dev_set(recognizer, utterances)
    trials: list[Trial] = []
    for trial in try_weights(
        lambda config: dev.count(decoder.with_settings(config)), with_model=lm is not None
    ):
        if not trials or trial.rank < min(other.rank for other in trials):
            report(trial.describe())
        trials.append(trial)
    if neural_lm is not None:
        weighed = min(trials, key=lambda trial: trial.rank)
        trials += _try_shares(weighed, decoder, neural_lm, lm, dev)
    phones = replace(dev, texts=tuple(recognizer.reference(text) for text in dev.texts))
    best_path = phones.count(Decoder(recognizer.tokens, DecodingConfig()))
    best = min(trials, key=lambda trial: trial.rank)
    config = _settings(best).model_copy(update={"neural_share": best.neural_share})
    kept = neural_lm if best.neural_share else None
    options.write_decoding(folder, config, lm=lm, lexicon=lexicon, neural_lm=kept)
    return Tuning(trials=tuple(trials), best_path=best_path, fit=store_fit(folder, dev))


def try_weights(
    count: Callable[[DecodingConfig], ErrorCounts], *, with_model: bool
) -> Iterator[Trial]:
    """Try weights, and yield each trial once.

    Args:
        count: the errors that settings give.
        with_model: there is a language model, whose weight is searched.
    """
    done: dict[tuple[float, float, int], Trial] = {}

    def trials(points: Sequence[tuple[float, float, int]]) -> Iterator[Trial]:
        for weight, bonus, beam in points:
            point = (round(weight, 3), round(bonus, 3), beam)
            if point in done or weight <= 0:
                continue
            config = DecodingConfig(lm_weight=point[0], word_bonus=point[1], beam=beam)
            done[point] = Trial(
                lm_weight=point[0], word_bonus=point[1], beam=beam, errors=count(config)
            )
            yield done[point]

    def best() -> Trial:
        return min(done.values(), key=lambda trial: trial.rank)

    yield from trials(
        [(w, b, _BEAM) for w in (_WEIGHTS if with_model else (1.0,)) for b in _BONUSES]
    )
    for weight_step, bonus_step in _STEPS:
        center = None
        while center != (center := best()):
            yield from trials(
                [
                    (
                        center.lm_weight + dw * weight_step,
                        center.word_bonus + db * bonus_step,
                        _BEAM,
                    )
                    for dw in ((-1, 0, 1) if with_model else (0,))
                    for db in (-1, 0, 1)
                ]
            )
    weighed = best()
    yield from trials([(weighed.lm_weight, weighed.word_bonus, beam) for beam in _BEAMS])


def _settings(trial: Trial) -> DecodingConfig:
    return DecodingConfig(beam=trial.beam, lm_weight=trial.lm_weight, word_bonus=trial.word_bonus)


def _try_shares(
    weighed: Trial,
    decoder: Decoder,
    neural_lm: Path,
    lm: Path | None,
    dev: DevSet,
) -> Iterator[Trial]:
    """With the weights found, shares of a neural language model."""
    rescorer = Rescorer(
        neural=language_models.load_neural_lm(neural_lm),
        ngram=language_models.read_language_model(lm) if lm is not None else None,
        lm_weight=weighed.lm_weight,
        share=0.0,
    )
    # As wide as there are readings to rank.
    weighed = replace(weighed, beam=max(weighed.beam, _RESCORING_BEAM))
    config = _settings(weighed)
    config = config.model_copy(update={"nbest": config.rescored})
    decoded = dev.decode(decoder.with_settings(config))
    differences = [rescorer.differences([h.text for h in hypotheses]) for hypotheses in decoded]
    for share in _SHARES:
        shared = replace(rescorer, share=share)
        ranked = [shared.ranked(*pair) for pair in zip(decoded, differences, strict=True)]
        yield replace(weighed, neural_share=share, errors=dev.errors(ranked))


def write_table(tuning: Tuning, path: Path) -> None:
    """Write all trials."""
    with open_atomic(path) as file:
        file.write(tuning.table())


def _line(values: Sequence[object], errors: ErrorCounts) -> str:
    shown = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return "\t".join([*shown, str(errors.errors), f"{errors.rate:.2f}"]) + "\n"
