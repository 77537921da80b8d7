"""`asr lm`: language models."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from asr import lm as models
from asr.cli.terminal import put, report
from asr.config import NEURAL_LM_FILES, NeuralLmConfig
from asr.errors import DataError
from asr.folders import check_replaceable

_FILE = click.Path(path_type=Path)
_SUFFIXES = (".arpa", ".arpa.gz")
_NUM_NAMED = 5  # words that are named
_NAMES = ("unigrams", "bigrams", "trigrams")


def _counts(_context: click.Context, _option: click.Parameter, value: str) -> list[int]:
    try:
        return [int(count) for count in value.split(",") if value]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of counts, as 0,1") from None


def _weights(_context: click.Context, _option: click.Parameter, value: str | None) -> list[float]:
    try:
        return [float(weight) for weight in (value or "").split(",") if weight]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of weights, as 0.7,0.3") from None


def _vocabulary(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> int | Path | None:
    if value is None or Path(value).is_file():
        return None if value is None else Path(value)
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither a file nor a number of words")
    return int(value)


@click.group()
def lm() -> None:
    """Language models: train, prune, interpolate, map, lexicon, perplexity, show, sample."""


@lm.command()
@click.argument("text", type=_FILE)
@click.option("--order", type=click.IntRange(min=1), help="Longest n-grams.")
@click.option("--output", type=_FILE, required=True, help="NAME.arpa[.gz]; with --lstm a folder.")
@click.option("--unit", type=click.Choice(["word", "character"]), default="word")
@click.option(
    "--prune",
    default="",
    callback=_counts,
    metavar="COUNTS",
    help="For order 2, 3, ...: leave out n-grams seen so often or less, as 0,1.",
)
@click.option(
    "--vocabulary",
    callback=_vocabulary,
    metavar="FILE|N",
    help="A word a line, or the N most frequent of TEXT; others are <unk>.",
)
@click.option("--lstm", is_flag=True, help="A recurrent network in place of n-grams.")
@click.option("--epochs", type=click.IntRange(min=1), default=20, help="With --lstm.")
@click.option("--hidden-size", type=click.IntRange(min=1), default=128, help="With --lstm.")
@click.option("--layers", type=click.IntRange(min=1), default=1, help="With --lstm.")
@click.option("--dropout", type=click.FloatRange(0, 0.99), default=0.4, help="With --lstm.")
@click.option("--seed", type=click.IntRange(min=0), default=1, help="With --lstm.")
def train(
    text: Path,
    order: int | None,
    output: Path,
    unit: "models.Unit",
    prune: list[int],
    vocabulary: int | Path | None,
    lstm: bool,
    epochs: int,
    hidden_size: int,
    layers: int,
    dropout: float,
    seed: int,
) -> None:
    """Learn a model from TEXT, a sentence a line or a manifest: n-grams, or an LSTM."""
    if lstm == (order is not None):
        raise click.UsageError("give --order N for n-grams, or --lstm for a recurrent network")
    if order is not None:
        _train_ngrams(text, order, output, unit, prune, vocabulary)
        return
    if prune or vocabulary is not None:
        raise click.UsageError("--prune and --vocabulary are for n-grams, with --order N")
    if output.exists() and not output.is_dir():
        raise click.UsageError(f"--output {output}: with --lstm a folder is written")
    check_replaceable(output, NEURAL_LM_FILES)  # now, and not when all is learnt
    config = NeuralLmConfig(
        epochs=epochs,
        unit=unit,
        hidden_size=hidden_size,
        num_layers=layers,
        dropout=dropout,
        seed=seed,
    )
    model = models.neural.train_neural_lm(models.read_sentences(text, unit), config, report)
    models.neural.save_neural_lm(model, output)


def _train_ngrams(
    text: Path,
    order: int,
    output: Path,
    unit: "models.Unit",
    prune: list[int],
    vocabulary: int | Path | None,
) -> None:
    _check_output(output)
    words = models.sentences.read_words(vocabulary) if isinstance(vocabulary, Path) else vocabulary
    given = models.read_sentences(text, unit)
    estimated = models.estimate(given, order=order, prune=prune, vocabulary=words)
    models.write_arpa(estimated.arpa, output)
    put(*_train_lines(estimated, unit))
    for number, discounts in enumerate(estimated.discounts, start=1):
        if not discounts.estimated:
            shown = ", ".join(f"{value:g}" for value in discounts.values)
            report(f"note: order {number}: too little text to estimate discounts; {shown} are used")


def _check_output(output: Path) -> None:
    if not output.name.endswith(_SUFFIXES):
        raise click.UsageError(f"--output {output}: a name that ends in .arpa or .arpa.gz")


@lm.command("prune")
@click.argument("arpa", metavar="FILE", type=_FILE)
@click.option("--output", type=_FILE, required=True, help="NAME.arpa[.gz].")
@click.option(
    "--threshold",
    type=click.FloatRange(min=0),
    help="Leave out n-grams without which perplexity rises by less than this share, as 1e-8.",
)
@click.option("--max-ngrams", type=click.IntRange(min=1), help="Or keep so many, of all orders.")
def prune_model(arpa: Path, output: Path, threshold: float | None, max_ngrams: int | None) -> None:
    """Leave out of the n-gram model FILE what backing off predicts nearly as well."""
    if (threshold is None) == (max_ngrams is None):
        raise click.UsageError("give --threshold T or --max-ngrams N")
    _check_output(output)
    model = models.arpa.read_arpa(arpa)
    with _named(arpa):
        pruned = models.pruning.prune(model, threshold=threshold, max_ngrams=max_ngrams)
    models.write_arpa(pruned.arpa, output)
    put(f"threshold    {pruned.threshold:.3g}")
    before = [len(ngrams) for ngrams in model.orders]
    after = [len(ngrams) for ngrams in pruned.arpa.orders]
    put(*(f"{line} of {n:,}" for line, n in zip(_ngram_lines(after), before, strict=True)))


@lm.command("map")
@click.argument("model_path", metavar="FILE", type=_FILE)
@click.option("--output", type=_FILE, required=True, help="A folder.")
def map_model(model_path: Path, output: Path) -> None:
    """Write the n-gram model FILE as the folder that decoding opens at once, without reading it."""
    if output.exists() and not output.is_dir():
        raise click.UsageError(f"--output {output}: a folder is written")
    from asr.lm import ngram

    model = ngram.read_language_model(model_path)
    ngram.save_model(model, output)
    size = sum((output / name).stat().st_size for name in ngram.MAPPED_FILES)
    put(*_ngram_lines(model.num_ngrams), f"size         {size / 1e6:.1f} MB")


@lm.command()
@click.argument("words_path", metavar="WORDS", type=_FILE)
@click.option("--language", required=True, help="As eSpeak NG names it: en-us, de, fr, ...")
@click.option("--output", type=_FILE, required=True, help="A file, `word phone phone ...` a line.")
def lexicon(words_path: Path, language: str, output: Path) -> None:
    """Write how WORDS are spoken, a word a line or a language model's: for networks of phones."""
    from asr.corpus import pronunciation
    from asr.errors import DataError
    from asr.files import open_atomic
    from asr.lm import ngram, sentences

    if words_path.is_dir() or words_path.name.endswith(_SUFFIXES):
        words = list(ngram.read_language_model(words_path).words[ngram.END_ID + 1 :])
    else:
        words = sentences.read_words(words_path)
    spelled = list(zip(words, pronunciation.pronounce(words, language), strict=True))
    silent = [word for word, phones in spelled if not phones]
    if len(silent) == len(words):
        raise DataError(f"{words_path}: none of its words is spoken in {language}")
    with open_atomic(output) as file:
        file.writelines(f"{word} {' '.join(phones)}\n" for word, phones in spelled if phones)
    num_phones = len({phone for _, phones in spelled for phone in phones})
    put(f"words        {len(words) - len(silent):,} of {num_phones} different phones")
    if silent:
        report(f"note: words without a sound are left out: {len(silent)}, as {silent[0]!r}")


@lm.command()
@click.argument("arpas", metavar="FILE...", type=_FILE, nargs=-1, required=True)
@click.option("--dev", type=_FILE, help="Text that the weights are found on.")
@click.option("--weights", callback=_weights, metavar="W,W", help="In place of those found.")
@click.option("--output", type=_FILE, required=True, help="NAME.arpa[.gz].")
def interpolate(
    arpas: tuple[Path, ...], dev: Path | None, weights: list[float], output: Path
) -> None:
    """Mix the n-gram models FILE... into one, by the weights that predict a text best."""
    if len(arpas) < 2:
        raise click.UsageError("two models or more are expected")
    if dev is None and not weights:
        raise click.UsageError("give --dev TEXT, for the weights to be found on, or --weights W,W")
    _check_output(output)
    mixing, ngram = models.mixing, models.ngram
    given = [_read_ngrams(path) for path in arpas]
    _check_units(arpas, [model for _, model in given])
    unit = given[0][1].unit
    text = list(models.read_sentences(dev, unit)) if dev is not None else []
    scores = None
    if dev is not None:
        with _named(dev):
            scores = mixing.score_text([model for _, model in given], text)
        weights = weights or mixing.find_weights(scores)[0]
    mixed = mixing.mix([arpa for arpa, _ in given], weights)
    models.write_arpa(mixed, output)
    if scores is not None:
        for path, weight, scored in zip(arpas, weights, scores.perplexities(), strict=True):
            lacking = f", {scored[1]:,} words lacking" if scored[1] else ""
            put(f"weight       {weight:.4f}, perplexity {scored[0]:.2f}{lacking}: {path}")
        stored = ngram.perplexity(ngram.build_model(mixed), text).without_oov
        put(f"OOV          {scores.num_unknown:,}")
        put(
            f"perplexity   {stored:.2f} without OOVs; {scores.perplexity(weights):.2f} if all "
            "models were asked for every word"
        )
    put(*_ngram_lines([len(ngrams) for ngrams in mixed.orders]))


def _read_ngrams(path: Path) -> "tuple[models.arpa.Arpa, models.LanguageModel]":
    arpa = models.arpa.read_arpa(path)
    with _named(path):
        return arpa, models.ngram.build_model(arpa)


def _check_units(arpas: tuple[Path, ...], read: "list[models.LanguageModel]") -> None:
    for path, model in zip(arpas, read, strict=True):
        if model.unit != read[0].unit:
            raise DataError(
                f"{path}: a model of {model.unit}s, and {arpas[0]} is one of {read[0].unit}s; "
                "only models of the same units can be mixed"
            )


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors begin with the name of the file that they are about."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


@lm.command()
@click.argument("folder", metavar="MODEL", type=_FILE)
@click.option("--count", type=click.IntRange(min=1), default=10, help="Sentences.")
@click.option("--seed", type=click.IntRange(min=0), default=1, help="The same draws the same.")
@click.option("--temperature", type=click.FloatRange(min=0.01), default=1.0)
def sample(folder: Path, count: int, seed: int, temperature: float) -> None:
    """Draw sentences from the LSTM in the folder MODEL."""
    model = models.load_neural_lm(folder)
    sentences = models.neural.sample(model, seed, temperature=temperature)
    for sentence in itertools.islice(sentences, count):
        put(sentence)


@lm.command()
@click.argument("model_path", metavar="FILE", type=_FILE)
@click.argument("text", type=_FILE)
@click.option(
    "--unit", type=click.Choice(["word", "character"]), help="By default the vocabulary says."
)
def perplexity(model_path: Path, text: Path, unit: "models.Unit | None") -> None:
    """How well the model FILE predicts TEXT, a sentence a line or a manifest."""
    if (model_path / "weights.safetensors").is_file():
        neural = models.load_neural_lm(model_path)
        unit = neural.config.unit
        result = models.neural.neural_perplexity(neural, models.read_sentences(text, unit))
    else:
        model = models.read_language_model(model_path)
        unit = unit or model.unit
        result = models.perplexity(model, models.read_sentences(text, unit))
    put(*_perplexity_lines(result, unit))


@lm.command()
@click.argument("model_path", metavar="FILE", type=_FILE)
def show(model_path: Path) -> None:
    """Describe the model FILE."""
    model, ngram = models.read_language_model(model_path), models.ngram
    shown = ", ".join(model.words[ngram.END_ID + 1 :][:_NUM_NAMED])
    put(f"model        {model_path}")
    put(f"unit         {model.unit}")
    put(f"vocabulary   {len(model.words) - ngram.END_ID - 1}, as {shown}")
    put(*_ngram_lines(model.num_ngrams))
    put(f"states       {len(model.backoffs):,}")
    put(f"<unk>        log10 probability {model.score(0, ngram.UNKNOWN_ID):.4f}")


def _train_lines(estimated: "models.Estimate", unit: "models.Unit") -> list[str]:
    unknown = f", {estimated.num_unknown:,} as <unk>" if estimated.num_unknown else ""
    vocabulary = f"{len(estimated.arpa.words) - 3:,} different{unknown}"
    return [
        f"sentences    {estimated.num_sentences:,}",
        f"{unit + 's':<12} {estimated.num_words:,}, {vocabulary}",
        *_ngram_lines([len(ngrams) for ngrams in estimated.arpa.orders]),
    ]


def _ngram_lines(counts: "list[int] | tuple[int, ...]") -> list[str]:
    names = [*_NAMES, *(f"{order}-grams" for order in range(4, len(counts) + 1))]
    return [f"{name:<12} {count:,}" for name, count in zip(names, counts, strict=False)]


def _perplexity_lines(result: "models.Perplexity", unit: "models.Unit") -> list[str]:
    named = ", ".join(f"{word} ({count})" for word, count in result.oov.most_common(_NUM_NAMED))
    more = ", ..." if len(result.oov) > _NUM_NAMED else ""
    tokens = result.num_known + result.num_oov
    return [
        f"sentences    {result.num_sentences:,}",
        f"{unit + 's':<12} {result.num_words:,}",
        f"OOV          {result.num_oov:,}{': ' * bool(named)}{named}{more}",
        f"perplexity   {result.with_oov:.2f} over {tokens:,} {unit}s and ends, OOVs as <unk>",
        f"perplexity   {result.without_oov:.2f} over {result.num_known:,}, without OOVs",
    ]
