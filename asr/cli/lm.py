"""`asr lm`: language models."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asr.cli.terminal import put, report

if TYPE_CHECKING:
    from asr.lm import Estimate, Perplexity, Unit

_FILE = click.Path(path_type=Path)
_SUFFIXES = (".arpa", ".arpa.gz")
_NUM_NAMED = 5  # words that are named
_NAMES = ("unigrams", "bigrams", "trigrams")


def _counts(_context: click.Context, _option: click.Parameter, value: str) -> list[int]:
    try:
        return [int(count) for count in value.split(",") if value]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of counts, as 0,1") from None


@click.group()
def lm() -> None:
    """Language models: train, perplexity, show, sample."""


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
    unit: "Unit",
    prune: list[int],
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
        _train_ngrams(text, order, output, unit, prune)
        return
    if output.exists() and not output.is_dir():
        raise click.UsageError(f"--output {output}: with --lstm a folder is written")
    from asr.config import NEURAL_LM_FILES, NeuralLmConfig
    from asr.files import check_replaceable

    check_replaceable(output, NEURAL_LM_FILES)  # now, and not when all is learnt
    from asr.lm import neural as neural_lm
    from asr.lm import read_sentences

    config = NeuralLmConfig(
        epochs=epochs,
        unit=unit,
        hidden_size=hidden_size,
        num_layers=layers,
        dropout=dropout,
        seed=seed,
    )
    model = neural_lm.train_neural_lm(read_sentences(text, unit), config, report)
    neural_lm.save_neural_lm(model, output)


def _train_ngrams(text: Path, order: int, output: Path, unit: "Unit", prune: list[int]) -> None:
    if not output.name.endswith(_SUFFIXES):
        raise click.UsageError(f"--output {output}: a name that ends in .arpa or .arpa.gz")
    from asr.lm import estimate, read_sentences, write_arpa

    estimated = estimate(read_sentences(text, unit), order=order, prune=prune)
    write_arpa(estimated.arpa, output)
    put(*_train_lines(estimated, unit))
    for number, discounts in enumerate(estimated.discounts, start=1):
        if not discounts.estimated:
            shown = ", ".join(f"{value:g}" for value in discounts.values)
            report(f"note: order {number}: too little text to estimate discounts; {shown} are used")


@lm.command()
@click.argument("folder", metavar="MODEL", type=_FILE)
@click.option("--count", type=click.IntRange(min=1), default=10, help="Sentences.")
@click.option("--seed", type=click.IntRange(min=0), default=1, help="The same draws the same.")
@click.option("--temperature", type=click.FloatRange(min=0.01), default=1.0)
def sample(folder: Path, count: int, seed: int, temperature: float) -> None:
    """Draw sentences from the LSTM in the folder MODEL."""
    from asr.lm import load_neural_lm
    from asr.lm import neural as neural_lm

    model = load_neural_lm(folder)
    for sentence in itertools.islice(neural_lm.sample(model, seed, temperature=temperature), count):
        put(sentence)


@lm.command()
@click.argument("model_path", metavar="FILE", type=_FILE)
@click.argument("text", type=_FILE)
@click.option(
    "--unit", type=click.Choice(["word", "character"]), help="By default the vocabulary says."
)
def perplexity(model_path: Path, text: Path, unit: "Unit | None") -> None:
    """How well the model FILE predicts TEXT, a sentence a line or a manifest."""
    from asr.lm import ngram as language_model
    from asr.lm import read_sentences

    # Only then, since it loads torch.
    if (model_path / "weights.safetensors").is_file():
        from asr.lm import load_neural_lm
        from asr.lm import neural as neural_lm

        neural = load_neural_lm(model_path)
        unit = neural.config.unit
        scored = neural_lm.neural_perplexity(neural, read_sentences(text, unit))
        put(*_perplexity_lines(scored, unit))
        return
    model = language_model.read_language_model(model_path)
    unit = unit or model.unit
    found = language_model.perplexity(model, read_sentences(text, unit))
    put(*_perplexity_lines(found, unit))


@lm.command()
@click.argument("model_path", metavar="FILE", type=_FILE)
def show(model_path: Path) -> None:
    """Describe the model FILE."""
    from asr.lm import ngram, read_language_model

    model = read_language_model(model_path)
    shown = ", ".join(model.words[ngram.END_ID + 1 :][:_NUM_NAMED])
    put(f"model        {model_path}")
    put(f"unit         {model.unit}")
    put(f"vocabulary   {len(model.words) - ngram.END_ID - 1}, as {shown}")
    put(*_ngram_lines(model.num_ngrams))
    put(f"states       {len(model.backoffs):,}")
    put(f"<unk>        log10 probability {model.score(0, ngram.UNKNOWN_ID):.4f}")


def _train_lines(estimated: "Estimate", unit: "Unit") -> list[str]:
    return [
        f"sentences    {estimated.num_sentences:,}",
        f"{unit + 's':<12} {estimated.num_words:,}, {len(estimated.arpa.words) - 3:,} different",
        *_ngram_lines([len(ngrams) for ngrams in estimated.arpa.orders]),
    ]


def _ngram_lines(counts: "list[int] | tuple[int, ...]") -> list[str]:
    names = [*_NAMES, *(f"{order}-grams" for order in range(4, len(counts) + 1))]
    return [f"{name:<12} {count:,}" for name, count in zip(names, counts, strict=False)]


def _perplexity_lines(found: "Perplexity", unit: "Unit") -> list[str]:
    named = ", ".join(f"{word} ({count})" for word, count in found.oov.most_common(_NUM_NAMED))
    more = ", ..." if len(found.oov) > _NUM_NAMED else ""
    tokens = found.num_known + found.num_oov
    return [
        f"sentences    {found.num_sentences:,}",
        f"{unit + 's':<12} {found.num_words:,}",
        f"OOV          {found.num_oov:,}{': ' * bool(named)}{named}{more}",
        f"perplexity   {found.with_oov:.2f} over {tokens:,} {unit}s and ends, OOVs as <unk>",
        f"perplexity   {found.without_oov:.2f} over {found.num_known:,}, without OOVs",
    ]
