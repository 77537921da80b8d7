"""The n-grams of stage `lm`: of the transcripts or a text, perhaps mixed with those of more."""

from pathlib import Path

from asr import decoding, lm, model
from asr.errors import AsrError, DataError
from asr.recipe.stage import Work


def check_base(work: Work) -> None:
    """See that the n-grams to mix with, if any, are there."""
    if work.config.lm.base is not None:
        locate_ngrams(work.config.lm.base)


def locate_ngrams(base: Path) -> Path:
    """The file of `lm.base`, which names it or a model that has it.

    Raises:
        DataError: there is none.
    """
    if base.is_file():
        return base
    try:
        folder = model.locate_model(base)
        name = decoding.options.read_decoding(folder).lm
    except AsrError as error:
        raise DataError(f"lm.base: {error}") from error
    if name is None:
        raise DataError(f"lm.base: {base}: has no language model; name an ARPA file")
    return folder / name


def estimate_ngrams(work: Work, text: Path, dev: Path, path: Path) -> None:
    """Write the n-grams that the configuration asks for.

    Args:
        text: that they are estimated from.
        dev: manifest or text that the weights of a mixture are found on.
        path: of the ARPA file.

    Raises:
        DataError: a text or `lm.base` cannot be used, or the settings do not go together.
    """
    settings = work.config.lm
    estimated = lm.estimate(
        lm.read_sentences(text, settings.unit),
        order=settings.order,
        vocabulary=settings.vocabulary or None,
    )
    arpa = estimated.arpa
    if settings.base is not None:
        arpa = _mixed(arpa, settings.base, dev, work)
    if settings.max_ngrams:
        try:
            arpa = lm.pruning.prune(arpa, max_ngrams=settings.max_ngrams).arpa
        except DataError as error:
            raise DataError(f"lm.max_ngrams: {error}") from error
    lm.write_arpa(arpa, path)
    counts = ", ".join(f"{len(ngrams):,}" for ngrams in arpa.orders)
    work.report(f"{estimated.num_sentences:,} sentences; n-grams by order: {counts}")


def _mixed(arpa: "lm.arpa.Arpa", base: Path, dev: Path, work: Work) -> "lm.arpa.Arpa":
    """With those of `base`, by the weights that make the dev set's texts most probable."""
    unit, place = work.config.lm.unit, locate_ngrams(base)
    theirs = lm.arpa.read_arpa(place)
    models = [lm.ngram.build_model(each) for each in (arpa, theirs)]
    if models[1].unit != unit:
        raise DataError(f"lm.base: {place}: of {models[1].unit}s, and lm.unit is {unit}")
    try:
        scores = lm.mixing.score_text(models, lm.read_sentences(dev, unit))
    except DataError as error:
        raise DataError(f"lm.base: {dev}: {error}") from error
    weights, _ = lm.mixing.find_weights(scores)
    (own, own_lacks), (other, other_lacks) = scores.perplexities()
    work.report(
        f"{base} is mixed in with weight {weights[1]:.2f}: perplexity of dev "
        f"{scores.perplexity(weights):.0f}; alone {other:.0f} with {other_lacks} words lacking, "
        f"the transcripts' {own:.0f} with {own_lacks}"
    )
    return lm.mixing.mix([arpa, theirs], weights)
