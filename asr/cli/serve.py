"""`asr serve`."""

import logging
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import click

from asr import server
from asr.cli.terminal import report
from asr.cli.transcription import decoding_options
from asr.decoding import DecodingOptions
from asr.errors import ConfigError

_FILE = click.Path(path_type=Path)
_REVIEWED = "reviewed.jsonl"
_EXTRA = ("starlette", "uvicorn", "websockets", "python_multipart")


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@click.option(
    "--api-key-file", type=click.Path(path_type=Path), help="Keys, one a line; one is needed."
)
@click.option("--insecure", is_flag=True, help="Let other machines use it without a key.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="A name it is called by.")
@click.option("--review", type=_FILE, metavar="MANIFEST", help="Speech to correct at /review.")
@click.option("--prompts", type=_FILE, metavar="FILE", help="Sentences to record at /record.")
@click.option("--reviewed", type=_FILE, metavar="MANIFEST", help="Takes what is corrected.")
@click.option(
    "--prompt-weight", type=float, default=2.0, show_default=True, help="Of a prompt's words."
)
@click.option("--log-transcripts", is_flag=True, help="Tell on stderr what was said.")
@decoding_options
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads to use.")
def serve(
    models: tuple[str, ...],
    host: str,
    port: int,
    api_key_file: Path | None,
    insecure: bool,
    allow_host: tuple[str, ...],
    review: Path | None,
    prompts: Path | None,
    reviewed: Path | None,
    prompt_weight: float,
    log_transcripts: bool,
    device: str,
    threads: int | None,
    **settings: Any,
) -> None:
    """Answer programs and show a page, with one model or several (FOLDER, or NAME=FOLDER).

    Programs that speak OpenAI's transcription interface or Vosk's websocket protocol are answered,
    on this machine only, unless --host and --api-key-file say otherwise. Ends with Ctrl-C or
    SIGTERM, when what runs is done. With --review or --prompts people correct or record speech in
    their browsers; what they decide is in reviewed.jsonl beside that file, to train on.
    """
    _check_installed()
    if reviewed and not (review or prompts):
        raise click.UsageError("--reviewed takes what --review or --prompts give")
    if log_transcripts:
        logging.getLogger("asr.server").setLevel(logging.INFO)
    options = server.ServerOptions(
        host=host,
        port=port,
        allowed_hosts=allow_host,
        key_digests=server.options.read_keys(api_key_file) if api_key_file else (),
        log_transcripts=log_transcripts,
        prompt_weight=prompt_weight,
    )
    server.options.check_reachable(options, insecure)
    counters = server.counters.Counters()
    desks: list[server.app.PageDesk] = []
    with ExitStack() as stack:
        # What is quickly found to be wrong comes before models, which take their time.
        stretches = server.review.read_stretches(review) if review else []
        sentences = server.prompts.read_prompts(prompts) if prompts else []
        if review or prompts:
            place = reviewed or Path(review or prompts or "").with_name(_REVIEWED)
            journal = stack.enter_context(closing(server.journal.Journal(place)))
        served = server.load_models(
            models,
            device=device,
            threads=threads,
            decoding=DecodingOptions(**settings),
            count_batch=counters.count_batch,
        )
        tokens = served[0].recognizer.tokens
        for model in served:
            for warning in model.recognizer.warnings:
                report(f"warning: {warning}")
        names = ", ".join(model.name for model in served)
        if stretches:
            desks.append(server.review.ReviewDesk(stretches, journal, tokens))
        if sentences:
            desks.append(server.prompts.PromptDesk(sentences, journal, tokens))

        def ready(url: str) -> None:
            report(f"{url} serves {names}")
            for desk in desks:
                report(f"{url}{desk.page} writes {place}")

        server.run_server(served, options, counters, ready, desks)


def _check_installed() -> None:
    """Say what to install before a model is read."""
    import importlib.util

    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"asr serve needs {', '.join(missing)}: pip install 'asr-recipes[serve]'")
