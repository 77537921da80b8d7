import filecmp
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.audio import RawFormat
from asr.cli import main
from asr.config import SpottingConfig
from asr.corpus.manifest import Utterance
from asr.decoding.options import DecodingOptions
from asr.errors import AsrError, DataError, ModelError
from asr.progress import silent
from asr.transcription import cluster
from asr.transcription.cluster import Setup, transcribe_on_ray
from asr.transcription.recognizer import Recognizer
from asr.transcription.sources import Source
from asr.transcription.spotting import open_spotter, spot_sources
from asr.transcription.transcript import Alternative, Transcript, Word
from asr.version import program_version
from tests.conftest import ROOT
from tests.tones import CONFIG, write_corpus

# A job of small tasks on a machine of two processors, whatever this one has.
JOB = """
import os, sys
import asr.transcription.job
from asr.audio import RawFormat
from asr.cli import main
asr.transcription.job._TASK_INPUTS = 8
os.sched_getaffinity = lambda _: {0, 1}
sys.exit(main(sys.argv[1:]))
"""

# A cluster of two machines, each of one processor and an address of its own.
MACHINES = """
from ray.cluster_utils import Cluster
first = {"num_cpus": 1, "include_dashboard": False, "node_ip_address": "127.0.0.1"}
cluster = Cluster(initialize_head=True, head_node_args=first)
cluster.add_node(num_cpus=1, node_ip_address="127.0.0.2")
print("ready", cluster.address, flush=True)
input()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def model(tone_run: Path) -> str:
    return str(tone_run / "model")


def same_folders(first: Path, second: Path) -> bool:
    names = {path.name for path in first.iterdir()}
    _, different, missing = filecmp.cmpfiles(first, second, names, shallow=False)
    return names == {path.name for path in second.iterdir()} and not different and not missing


def workers_of(process: int) -> Iterator[int]:
    """Ids of Ray's workers that a process has, at whatever depth."""
    parents: dict[int, int] = {}
    workers = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                folder.joinpath("stat").read_text().split(")")[1].split()[1]
            )
            if folder.joinpath("cmdline").read_bytes().startswith(b"ray::MapWorker"):
                workers.append(int(folder.name))
        except OSError:  # it has ended
            continue
    for worker in workers:
        above = worker
        while above in parents and above != process:
            above = parents[above]
        if above == process:
            yield worker


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_a_job_that_loses_one_of_two_workers_writes_what_one_machine_writes(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_corpus(Path("speech"), 80, seed=3)
    Path("speech/1.wav").write_bytes(b"no audio")
    here, there = Path("here"), Path("there")
    arguments = ["transcribe", model, "speech", "--format", "txt,json,ctm", "--threads", "1"]
    arguments += ["--skip-existing", "--output-dir"]
    # As an earlier job that was stopped has left it.
    for name in ("0.txt", "0.json", "0.ctm", "70.txt", "70.json", "70.ctm"):
        for folder in (here, there):
            folder.mkdir(exist_ok=True)
            folder.joinpath(name).write_text("done before")
    with monkeypatch.context() as patched:
        patched.setattr("asr.transcription.job._TASK_INPUTS", 8)
        assert main([*arguments, "here"]) == 1
    command = [sys.executable, "-c", JOB, *arguments, "there", "--ray", "local"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    error = ""
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout is not None
        assert job.stderr is not None
        for line in job.stderr:
            error += line
            if line.startswith("speech/1.wav: "):  # the first task is done
                os.kill(next(workers_of(job.pid)), signal.SIGKILL)
        output = job.stdout.read()
    if "Ray waits 30 s for its own start" in error:
        pytest.skip("Ray did not start within its 30 s")
    assert "10 tasks, 2 workers, --threads 1" in error
    assert job.returncode == 1, error
    assert output == ""
    assert (there / "0.txt").read_text() == "done before"
    assert len(list(there.iterdir())) == 3 * 79 + 2  # and two lists
    assert same_folders(here, there)


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_two_machines_write_with_an_exported_model_what_one_writes(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    write_corpus(Path("speech"), 24, seed=4)
    assert main(["export", model, "--output", "exported"]) == 0
    arguments = ["transcribe", "exported", "speech", "--format", "txt,json", "--output-dir"]
    with monkeypatch.context() as patched:
        patched.setattr("asr.transcription.job._TASK_INPUTS", 8)
        assert main([*arguments, "here", "--threads", "1"]) == 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", MACHINES], env=environment, **pipes) as machines:
        assert machines.stdout is not None
        ready = next((line for line in machines.stdout if line.startswith("ready ")), None)
        if ready is None:
            pytest.skip("Ray did not start its machines")
        command = [sys.executable, "-c", JOB, *arguments, "there", "--ray", ready.split()[1]]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        machines.communicate("\n")
    assert done.returncode == 0, done.stderr
    assert "3 tasks, 2 workers, --threads 1" in done.stderr
    assert same_folders(Path("here"), Path("there"))


@pytest.mark.parametrize(
    ("given", "threads"),
    [pytest.param([], 1, id="none said"), pytest.param(["--threads", "2"], 2, id="two")],
)
def test_a_worker_has_one_thread_if_nothing_is_said(
    given: list[str], threads: int, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setups: list[Setup] = []

    def noted(_: str, __: object, setup: Setup, *___: object) -> Iterator[Any]:
        setups.append(setup)
        yield from ()

    monkeypatch.setattr("asr.transcription.cluster.check_address", lambda _: None)
    monkeypatch.setattr("asr.transcription.cluster.transcribe_on_ray", noted)
    (tmp_path / "a.wav").touch()
    assert main(["transcribe", model, str(tmp_path / "a.wav"), "--ray", "local", *given]) == 0
    assert [setup.threads for setup in setups] == [threads]


def test_spotting_is_given_to_workers_with_its_keywords(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setups: list[Setup] = []

    def noted(_: str, __: object, setup: Setup, *___: object) -> Iterator[Any]:
        setups.append(setup)
        yield from ()

    monkeypatch.setattr("asr.transcription.cluster.check_address", lambda _: None)
    monkeypatch.setattr("asr.transcription.cluster.transcribe_on_ray", noted)
    (tmp_path / "a.wav").touch()
    (tmp_path / "words.txt").write_text("la\n")
    arguments = ["spot", model, str(tmp_path / "a.wav"), "--threshold", "0.7"]
    arguments += ["--keywords", str(tmp_path / "words.txt"), "--ray", "local"]
    assert main(arguments) == 0
    (sent,) = setups
    assert sent.spotter is not None
    assert [word.text for word in sent.spotter.keywords] == ["la"]
    assert (sent.spotter.thresholds, sent.threads) == ((0.7,), 1)


def test_without_ray_a_line_says_what_to_install(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda _: None)
    assert main(["transcribe", model, "a.wav", "--ray", "local"]) == 2
    assert capsys.readouterr().err == "asr: --ray needs Ray Data: pip install 'asr-recipes[ray]'\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["-", "--ray", "local"], "--ray takes files", id="stdin"),
        pytest.param(["a.wav", "--live", "--ray", "local"], "--ray takes files", id="live"),
        pytest.param(
            ["wav.scp", "--allow-commands", "--ray", "local"], "runs no commands", id="commands"
        ),
        pytest.param(["a.wav", "--ray", "auto"], "not HOST:PORT", id="no address"),
        pytest.param(["a.wav", "--ray", "ray://a:10001"], "not HOST:PORT", id="Ray Client"),
        pytest.param(["a.wav", "--ray", "127.0.0.1:1"], "refused", id="nobody listens"),
    ],
)
def test_what_ray_cannot_do_is_refused_in_a_line(
    model: str,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: name)
    assert main(["transcribe", model, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize("arguments", [["-"], ["a.wav", "--live"]])
def test_what_arrives_is_spotted_here(
    model: str,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: name)
    (tmp_path / "words.txt").write_text("la\n")
    keywords = ["--keywords", str(tmp_path / "words.txt")]
    assert main(["spot", model, *arguments, *keywords, "--ray", "local"]) == 2
    assert "--ray takes files" in capsys.readouterr().err


floats = st.floats(allow_nan=False)
texts = st.text()


@given(
    st.builds(
        Transcript,
        text=texts,
        words=st.lists(
            st.builds(Word, text=texts, start=floats, end=floats, confidence=floats), max_size=3
        ).map(tuple),
        log_prob=floats,
        duration=floats,
        warnings=st.lists(texts, max_size=2).map(tuple),
        nbest=st.lists(
            st.builds(Alternative, text=texts, log_prob=floats, score=floats), max_size=2
        ).map(tuple),
    )
)
def test_a_transcript_comes_back_from_a_worker_bit_by_bit(transcript: Transcript) -> None:
    values = json.loads(json.dumps(cluster._to_values(transcript)))
    assert cluster._from_json(values) == transcript


def sources(count: int, speaker: str | None = None) -> list[Source]:
    return [
        Source(
            utterance=Utterance(
                id=f"id {n}",
                audio_filepath=Path(f"folder/\udcff{n}.wav"),
                duration=1.5,
                offset=n / 3,
                speaker=speaker,
            ),
            channel=n or None,
        )
        for n in range(count)
    ]


def test_a_source_arrives_at_a_worker_as_it_was() -> None:
    sent = sources(3, "ann")
    sent.append(replace(sent[0], raw=RawFormat.parse("8000:f32:2")))
    assert [cluster._source(values) for values in json.loads(cluster._to_json(sent))] == sent


def setup(**values: Any) -> Setup:
    return Setup(**{"model": Path("m"), "decoding": DecodingOptions(), "threads": 2, **values})


def test_a_worker_gives_what_the_recognizer_gives(
    tone_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)  # and back after the test
    utterances = write_corpus(tmp_path / "speech", 3, seed=7)
    utterances[1].audio_filepath.unlink()
    task = [Source(utterance=utterance, channel=1) for utterance in utterances]
    worker = cluster._Worker(setup(model=tone_run / "model"), tmp_path, program_version())
    row = worker({"number": 5, "sources": cluster._to_json(task)})
    assert (row["number"], row["fault"]) == (5, "")
    first, error, third = (cluster._from_json(values) for values in json.loads(row["results"]))
    recognizer = Recognizer.load(tone_run / "model", device="cpu", threads=2)
    here = [result for _, result in recognizer.transcribe_utterances(utterances)]
    assert [first, third] == [here[0], here[2]]
    assert str(error) == str(here[1])


def test_a_worker_that_spots_gives_the_hits_of_one_machine(
    tone_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)  # and back after the test
    sources = [Source(utterance=u) for u in write_corpus(tmp_path / "speech", 4, seed=8)]
    (tmp_path / "words.txt").write_text("la\nmi la\n")
    recognizer = Recognizer.load(tone_run / "model", device="cpu", threads=2)
    spotter = open_spotter(recognizer, tmp_path / "words.txt", SpottingConfig())
    sent = pickle.loads(pickle.dumps(setup(model=tone_run / "model", spotter=spotter)))
    worker = cluster._Worker(sent, tmp_path, program_version())
    row = worker({"number": 0, "sources": cluster._to_json(sources)})
    here = [result for _, result in spot_sources(recognizer, spotter, sources)]
    assert [cluster._from_json(values) for values in json.loads(row["results"])] == here
    spotted = {word.text for hits in here if isinstance(hits, Transcript) for word in hits.words}
    assert spotted == {"la", "mi la"}


@pytest.mark.parametrize(
    ("model", "folder", "version", "message"),
    [
        pytest.param("m", ".", program_version(), "not a model folder", id="no model"),
        pytest.param("m", "nowhere", program_version(), "nowhere", id="no folder"),
        pytest.param("m", ".", "0.0.1", "not 0.0.1", id="another version"),
    ],
)
def test_a_worker_that_cannot_begin_says_why_and_where(
    model: str, folder: str, version: str, message: str
) -> None:
    worker = cluster._Worker(setup(model=Path(model)), Path(folder), version)
    fault = worker({"number": 0, "sources": "[]"})["fault"]
    assert fault.startswith(f"worker on {socket.gethostname()}: ")
    assert message in fault


def test_inputs_whose_workers_were_all_lost_fail_and_the_others_keep_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asr.transcription.job._TASK_INPUTS", 2)
    monkeypatch.setattr(cluster, "check_address", lambda _: None)
    monkeypatch.setattr(cluster, "_connected", lambda *_: nullcontext())
    done = Transcript(text="done", words=(), log_prob=0.0, duration=1.5)
    monkeypatch.setattr(cluster, "_run", lambda *_: iter([(1, [done, done]), (2, [done, done])]))
    results = list(transcribe_on_ray("local", sources(7), setup(), CONFIG, silent))
    assert [source.id for source, _ in results] == [f"id {n}" for n in range(7)]
    assert [isinstance(result, DataError) for _, result in results] == [True] * 2 + [False] * 4 + [
        True
    ]


def test_a_model_that_must_hear_all_of_a_speaker_is_refused() -> None:
    config = CONFIG.model_copy(
        update={"features": CONFIG.features.model_copy(update={"normalization": "speaker"})}
    )
    with pytest.raises(ModelError, match="normalized by speaker"):
        list(transcribe_on_ray("local", sources(2, "ann"), setup(), config, silent))


NODES = [
    {"Alive": True, "Resources": {"CPU": 5.0, "GPU": 2.0}},
    {"Alive": True, "Resources": {"CPU": 4.0}},
    {"Alive": True, "Resources": {"CPU": 1.0}},
    {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
]


def test_workers_fill_the_machines_that_have_room_for_their_threads() -> None:
    assert cluster._room(setup(device="cpu"), NODES)[:2] == (4, {"num_cpus": 2})
    workers, needs, chosen = cluster._room(setup(), NODES)
    assert (workers, needs, chosen.device) == (2, {"num_cpus": 0, "num_gpus": 1}, "cuda")
    with pytest.raises(AsrError, match="6 processors"):
        cluster._room(setup(device="cpu", threads=6), NODES)
    with pytest.raises(ModelError, match="has a GPU"):
        cluster._room(setup(device="cuda"), NODES[1:])
