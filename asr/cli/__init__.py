"""The command line: `asr VERB ...`. Results go to stdout, all else to stderr.

Exit codes: 0; 1 if some input failed or a threshold was missed; 2 for wrong usage, configuration
or data; 143 when SIGTERM stopped a training run, whose state was saved. Verbs live in modules of
their own, imported when they are called: `asr --help` is quick.
"""

import difflib
import functools
import importlib
import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from asr.cli.inputs import refuse_input
from asr.cli.terminal import prepare_streams, show_log, tell
from asr.errors import AsrError, StoppedError

_OUTPUTS = {"--output", "--segment"}
"""Options that name a file to write."""

_VERBS = {
    "init": ("asr.cli.init", "Write a recipe for recordings or sentences of your own."),
    "recipes": ("asr.cli.recipes", "The recipes here, one line each."),
    "run": ("asr.cli.recipes", "Run a recipe's stages, from data preparation to a scored test."),
    "transcribe": ("asr.cli.transcription", "Turn audio files into text with a model."),
    "evaluate": ("asr.cli.transcription", "Transcribe a manifest, then score."),
    "serve": ("asr.cli.serve", "Answer programs, and show a page, with models."),
    "align": ("asr.cli.align", "Find where the words of a known text are said."),
    "spot": ("asr.cli.spot", "Find keywords in running speech."),
    "tune": ("asr.cli.tuning", "Find the weights of decoding on a dev set."),
    "score": ("asr.cli.scoring", "Word error rate of hypotheses against references."),
    "compare": ("asr.cli.scoring", "Is one set of hypotheses really better than another?"),
    "lm": ("asr.cli.lm", "Language models: train, perplexity, show, sample."),
    "data": ("asr.cli.data", "Corpora: check them, count what is in them, cut them."),
    "export": ("asr.cli.export", "Write a model for ONNX Runtime, without torch."),
    "show": (
        "asr.cli.show",
        "Describe a configuration, model, manifest, audio file or this installation.",
    ),
}


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            close = difflib.get_close_matches(cmd_name, _VERBS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(_VERBS)}"
            ctx.fail(f"no verb {cmd_name!r}; {hint}")
        module = importlib.import_module(_VERBS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name)
        _prepare(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Verbs"):
            formatter.write_dl([(name, line) for name, (_, line) in _VERBS.items()])


def _set_verbosity(context: click.Context, parameter: click.Parameter, is_set: bool) -> None:
    del context
    if is_set:
        show_log(logging.INFO if parameter.name == "verbose" else logging.ERROR)


_VERBOSITY = (
    click.Option(
        ["-v", "--verbose"],
        is_flag=True,
        expose_value=False,
        callback=_set_verbosity,
        help="Tell on stderr what is going on in detail.",
    ),
    click.Option(
        ["-q", "--quiet"],
        is_flag=True,
        expose_value=False,
        callback=_set_verbosity,
        help="Nothing on stderr but errors.",
    ),
)


def _prepare(command: click.Command) -> None:
    """Have a verb, and those below it, take -v and -q, and have its values checked."""
    if not set(_VERBOSITY) & set(command.params):
        command.params.extend(_VERBOSITY)
        if command.callback is not None:
            command.callback = _checking_values(command, command.callback)
    if isinstance(command, click.Group):
        for verb in command.commands.values():
            _prepare(verb)


def _checking_values(command: click.Command, callback: Callable[..., Any]) -> Callable[..., Any]:
    """What writes over nothing that it reads, and takes for a number what is one."""
    outputs = {o.name: o.opts[0] for o in command.params if set(o.opts) & _OUTPUTS}
    numbers = {o.name: o.opts[0] for o in command.params if isinstance(o.type, type(click.FLOAT))}

    @functools.wraps(callback)
    def checked(*arguments: Any, **values: Any) -> Any:
        for name, option in numbers.items():
            if values[name] is not None and math.isnan(values[name]):
                raise click.UsageError(f"{option} {values[name]}: a number is expected")
        for name, option in outputs.items():
            if isinstance(values.get(name), Path):
                inputs = (value for key, value in values.items() if key not in outputs)
                refuse_input(values[name], inputs, option)
        return callback(*arguments, **values)

    return checked


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    params=list(_VERBOSITY),
)
@click.version_option(package_name="asr-recipes", prog_name="asr")
def cli() -> None:
    """Train, use and evaluate speech recognizers of your own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    prepare_streams()
    show_log()
    try:
        code = cli.main(
            list(arguments) if arguments is not None else None, "asr", standalone_mode=False
        )
    except click.ClickException as error:
        _say(error.format_message())
        return 2
    except StoppedError as error:
        _say(str(error))
        return 143  # 128 + SIGTERM, as a shell says it
    except AsrError as error:
        _say(str(error))
        return 2
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):
            raise error.__cause__ from None  # a fault that click takes for somebody's wish
        _say("stopped")
        return 130
    except BrokenPipeError:
        # The reader of stdout has gone; nobody wants the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say(f"{where}{error.strerror or error}")
        return 2
    return code if isinstance(code, int) else 0


def _say(message: str) -> None:
    rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))  # several say the same
    prefix = "asr: " if rank == "0" else f"asr (process {rank}): "
    tell(prefix + " ".join(message.split()))


def run() -> None:
    """Entry point of the `asr` program."""
    sys.exit(main())
