"""Every setting of the toolkit, typed, and how plain values are checked against them.

The classes stand together in this module, below everything that computes, so that a configuration
is checked before torch is imported. `asr.config_files` reads and writes the files that state them.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from asr.errors import ConfigError

# Bounds of what a model folder, which may be anyone's, makes this machine do.
MAX_BEAM = 10_000
"""Prefixes; half a minute of them fills more than a gigabyte."""
MAX_UNITS = 16_384
"""Of a layer; a matrix of so many by so many takes a gigabyte."""
MAX_LAYERS = 64
MAX_SIZE = 1_000_000
"""Of a vocabulary."""


class Settings(BaseModel):
    """Base of every configuration class: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FeatureConfig(Settings):
    """From waveform to the encoder's input."""

    kind: Literal["fbank", "mfcc"] = "fbank"
    """Log-mel energies, or cepstra of them."""
    convention: Literal["kaldi", "sphinx"] = "kaldi"
    """Whose arithmetic: window, pre-emphasis, mel scale, filters and DCT."""
    sample_rate: int = Field(16000, ge=1000, le=192000)
    """Hz. Audio of another rate is resampled to it."""
    frame_length_ms: float = Field(25.0, gt=0, le=1000)
    """Length of a frame in milliseconds."""
    frame_shift_ms: float = Field(10.0, gt=0, le=1000)
    """Milliseconds from one frame to the next."""
    num_mel_bins: int = Field(80, ge=2, le=1024)
    """Number of mel filters."""
    low_freq: float = Field(20.0, ge=0)
    """Lower edge of the first filter in Hz."""
    high_freq: float | None = Field(None, gt=0)
    """Upper edge of the last filter in Hz; none means half of the sample rate."""
    noise_floor_db: float | None = Field(None, le=0)
    """Level of a white noise, in dB of full scale, whose mean energy is added to every filter's, so
    that digital silence is not endlessly far below speech; none adds nothing. Stored cepstra are
    taken as they are."""
    num_ceps: int = Field(13, ge=1, le=1024)
    """Cepstra kept, the zeroth included; for `mfcc`."""
    deltas: int = Field(0, ge=0, le=2)
    """Highest order of time derivative that is appended: 0, 1 or 2."""
    normalization: Literal["none", "utterance", "speaker", "global", "sliding", "running"] = (
        "utterance"
    )
    """Mean and variance: left as they are, or of each utterance, of all utterances of its speaker
    that are in the same manifest (of the utterance where no speaker is known), of the training
    set, of the three seconds around each frame, or of the three seconds before it; with a little
    of the training set's in the last two."""

    @property
    def frame_length(self) -> int:
        """Samples in a frame."""
        return int(self.sample_rate * self.frame_length_ms / 1000)

    @property
    def frame_shift(self) -> int:
        """Samples from one frame to the next."""
        return int(self.sample_rate * self.frame_shift_ms / 1000)

    @property
    def num_base_bins(self) -> int:
        """Values in a frame before deltas."""
        return self.num_mel_bins if self.kind == "fbank" else self.num_ceps

    @property
    def num_bins(self) -> int:
        """Values in a frame as the encoder sees it."""
        return self.num_base_bins * (1 + self.deltas)

    @model_validator(mode="after")
    def _check(self) -> Self:
        nyquist = self.sample_rate / 2
        high = self.high_freq or nyquist
        if not self.low_freq < high <= nyquist:
            raise ValueError(
                f"low_freq {self.low_freq:g} < high_freq {high:g} <= {nyquist:g} Hz "
                "(half of sample_rate) does not hold"
            )
        if not 1 <= self.frame_shift <= self.frame_length:
            raise ValueError(
                f"frame_shift_ms {self.frame_shift_ms:g} is less than a sample, or more than "
                f"frame_length_ms {self.frame_length_ms:g}"
            )
        if self.kind == "mfcc" and self.num_ceps > self.num_mel_bins:
            raise ValueError(f"num_ceps {self.num_ceps} exceeds num_mel_bins {self.num_mel_bins}")
        return self


class TokenConfig(Settings):
    """The units that the network writes."""

    kind: Literal["characters", "bpe", "phones"] = "characters"
    """Characters of the training text, SentencePiece byte-pair units learnt from it, or the phones
    of the pronunciations that the recipe's preparation writes."""
    vocabulary_size: int = Field(256, ge=8, le=MAX_SIZE)
    """Number of units; for `bpe`."""


Codec = Literal["none", "telephone", "mu-law", "mp3", "opus"]


class AugmentConfig(Settings):
    """What training does to the audio and features; off unless a value says otherwise."""

    speeds: tuple[float, ...] = (1.0,)
    """Playing speeds, one drawn for a batch; features in place of audio are stretched in time."""
    silence_seconds: float = Field(0.0, ge=0, le=60)
    """Audio gets up to this much digital silence before and after it, each, before reverberation
    and noise."""
    join_probability: float = Field(0.0, ge=0, le=1)
    """Share of the batches whose utterances are joined in pairs, as in a recording of several; each
    with its own noise, level and channel, but normalized together."""
    gain_db: float = Field(0.0, ge=0)
    """Level is changed by up to this many decibels, either way."""
    noise_probability: float = Field(0.0, ge=0, le=1)
    """Share of utterances that noise is added to."""
    noise_snr_db: tuple[float, float] = (5.0, 30.0)
    """Range of the signal-to-noise ratio."""
    noise_files: tuple[Path, ...] = ()
    """Audio files, folders of them, or manifests: recorded noise in place of artificial."""
    reverb_probability: float = Field(0.0, ge=0, le=1)
    """Share of utterances that are reverberated."""
    reverb_rt60: tuple[float, float] = (0.1, 0.6)
    """Range of the reverberation time in seconds."""
    reverb_files: tuple[Path, ...] = ()
    """Likewise, impulse responses of rooms in place of artificial ones."""
    codecs: tuple[Codec, ...] = ()
    """What training utterances go through when they are packed, one drawn for each by its id; a
    codec may be named more than once, `none` leaves one as it is."""
    vocal_tract: float = Field(0.0, ge=0, lt=1)
    """Frequencies are scaled by up to this share, either way, as by other speakers."""
    channel_db: float = Field(0.0, ge=0)
    """A smooth filter of up to this many decibels, either way, as of other microphones."""
    time_masks: int = Field(0, ge=0)
    """SpecAugment: number of time masks for every ten seconds, at least one."""
    time_mask_width: int = Field(25, ge=1)
    """Longest time mask in frames."""
    time_mask_share: float = Field(0.2, ge=0, le=1)
    """Largest share of an utterance that one time mask may cover."""
    freq_masks: int = Field(0, ge=0)
    """SpecAugment: number of frequency masks."""
    freq_mask_width: int = Field(15, ge=1)
    """Widest frequency mask in bins."""
    mask_ramp: float = Field(0.0, ge=0, le=1)
    """Share of the training over which masks grow from nothing to their full number and width."""


class EncoderConfig(Settings):
    """The network: convolutional subsampling, recurrent layers, output layer."""

    cell: Literal["rnn", "lstm", "gru"] = "lstm"
    """Recurrent cell; `rnn` is h_t = tanh(W_hh h_{t-1} + W_xh x_t + b_h)."""
    bidirectional: bool = True
    """Two directions, or only from past to future."""
    hidden_size: int = Field(256, ge=1, le=MAX_UNITS)
    """Units of a layer and direction."""
    num_layers: int = Field(3, ge=1, le=MAX_LAYERS)
    """Recurrent layers."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Probability that a unit is dropped, for a whole utterance, after each layer."""
    subsampling: Literal[1, 2, 3, 4] = 2
    """Frames to a step."""
    conv_channels: int = Field(128, ge=1, le=MAX_UNITS)
    """Output channels of the subsampling convolutions."""


class InitConfig(Settings):
    """Fine-tuning: the model that training starts from, and how; nothing of it counts without."""

    model: Path | None = None
    """A model folder, or the name of a model that comes with the package; none is random weights.
    What it normalizes features with, where that was measured on its training set, is kept."""
    keep_tokens: bool = True
    """Keep the model's characters or byte-pair units, and add the characters that the transcripts
    need; otherwise they are those of the transcripts alone. Phones are always the recipe's."""
    freeze_share: float = Field(0.1, ge=0, le=1)
    """Share of the steps, the first ones, in which nothing but the output layer is trained."""
    lower_rate: float = Field(1.0, ge=0, le=1)
    """Share of the learning rate that all below the output layer is trained with afterwards."""
    replay: Path | None = None
    """Manifest of what the model was trained on, some of which is learnt again in each epoch, so
    that less of it is forgotten."""
    replay_share: float = Field(0.2, gt=0, lt=1)
    """Share of an epoch's utterances that are drawn from `replay`."""
    old_test: Path | None = None
    """Manifest on which the recipe's result says how much was forgotten; not learnt from."""


class MoreSpeechConfig(Settings):
    """Further speech to learn from, as what a model has labelled."""

    manifest: Path
    """Of its utterances. What is in a dev or test set or has a text in the training set is left
    out."""
    weight: float = Field(1.0, gt=0, le=100)
    """Times that an epoch has each of them; of 0.5 it has a half, and the next one the other."""
    share: float | None = Field(None, gt=0, lt=1)
    """Share of an epoch's utterances that are drawn from them; where given `weight` is not used."""
    min_confidence: float = Field(0.0, ge=0, le=1)
    """Those whose `confidence` is lower are left out; those that state none stay."""


class TrainingConfig(Settings):
    """How the network is trained."""

    seed: int = Field(1, ge=0)
    """Of everything random."""
    init: InitConfig = InitConfig()
    """The model that it starts from."""
    more: tuple[MoreSpeechConfig, ...] = ()
    """Further speech, besides the recipe's training set."""
    epochs: int = Field(40, ge=0)
    """Passes over the training set; 0, with `init` only, gives the model that it starts from."""
    batch_seconds: float = Field(60.0, gt=0)
    """Padded audio in a batch."""
    stream: bool = False
    """The training set's tar shards are read in every epoch, in place of a decoded copy on the
    disk; batches are then drawn from a window of shards, and not from all."""
    window_mb: float = Field(500.0, gt=0)
    """Megabytes of decoded audio in a window of shards; two are in memory. For `stream`."""
    learning_rate: float = Field(1e-3, gt=0)
    """AdamW's, at its peak."""
    weight_decay: float = Field(1e-2, ge=0)
    """AdamW's, on matrices only."""
    warmup_share: float = Field(0.1, ge=0, le=1)
    """Share of the steps in which the rate rises; it then falls to nothing as a cosine."""
    clip_norm: float = Field(5.0, gt=0)
    """Largest norm of the gradient."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the matrix products; `auto` is bfloat16 on a GPU that has it, float32 on a CPU.

    On a CPU bfloat16 is faster with AMX, or an AMD that has AVX512-BF16; slower on others, which a
    line then says.
    """
    consistency: float = Field(0.0, ge=0)
    """CR-CTC: weight of the divergence between two masked views of each utterance; 0 is one view.
    A step costs twice as much with it."""
    intermediate: float = Field(0.0, ge=0, lt=1)
    """InterCTC: share of the loss that is taken after half of the recurrent layers."""
    average_decay: float = Field(0.99, ge=0, lt=1)
    """Of the moving average of the weights, a step; 0 is no average."""
    dev_interval: int = Field(1, ge=1)
    """Epochs from one scoring of the dev set to the next."""
    num_samples: int = Field(3, ge=0)
    """Dev utterances shown with their hypotheses at each scoring, from the best to the worst."""
    checkpoint_seconds: float = Field(30.0, ge=0)
    """Time from one checkpoint to the next; 0 is one a step."""
    max_bad_steps: int = Field(10, ge=0)
    """Steps without a finite gradient that are left out before training stops."""

    @model_validator(mode="after")
    def _check_init(self) -> Self:
        if not self.epochs and self.init.model is None:
            raise ValueError("epochs 0 without init.model: nothing would be learnt; give 1 or more")
        if self.stream and self.init.model is not None and self.init.replay is not None:
            raise ValueError(
                "stream: shards that are read as training goes on stand alone; drop init.replay"
            )
        if self.stream and self.more:
            raise ValueError(
                "stream: shards that are read as training goes on stand alone; drop more"
            )
        if sum(more.share or 0.0 for more in self.more) >= 0.99:
            raise ValueError("more: the shares leave nothing of an epoch to the training set")
        return self


NEURAL_LM_FILES = ("config.yaml", "weights.safetensors", "words.txt")
"""What the folder of a neural language model consists of."""


class NeuralLmConfig(Settings):
    """An LSTM language model."""

    epochs: int = Field(0, ge=0)
    """Passes over the text; 0 is no such model."""
    unit: Literal["word", "character"] = "word"
    """What it predicts."""
    hidden_size: int = Field(128, ge=1, le=MAX_UNITS)
    """Units of a layer, and of an embedding."""
    num_layers: int = Field(1, ge=1, le=MAX_LAYERS)
    """LSTM layers."""
    dropout: float = Field(0.4, ge=0, lt=1)
    """Probability that a unit is dropped, before and after the layers."""
    learning_rate: float = Field(3e-3, gt=0)
    """AdamW's, at the beginning; it falls to nothing as a cosine."""
    batch_size: int = Field(32, ge=1)
    """Sentences in a batch."""
    seed: int = Field(1, ge=0)
    """Of everything random."""


class LanguageModelConfig(Settings):
    """What helps the recipe's decoding: made by stage `lm`, weighed on the dev set by `tune`."""

    order: int = Field(0, ge=0, le=20)
    """Longest n-grams in words or characters; 0 is no language model."""
    unit: Literal["word", "character"] = "word"
    """What it predicts."""
    text: Path | None = None
    """File that it is estimated from, a sentence a line, perhaps packed by gzip or xz; none means
    the training transcripts."""
    base: Path | None = None
    """N-grams of much text that those are mixed with, by weights found on the dev set: an ARPA
    file, or a model that has some, by its folder or name."""
    vocabulary: int = Field(0, ge=0)
    """Most frequent words of the text that the n-grams have, others are `<unk>`; 0 is all."""
    max_ngrams: int = Field(0, ge=0)
    """N-grams that are left after pruning by relative entropy; 0 prunes none."""
    lexicon: bool = False
    """Recognize no words but those of that text."""
    neural: NeuralLmConfig = NeuralLmConfig()
    """A second model, learnt from that text, that ranks the beam search's readings anew."""

    @model_validator(mode="after")
    def _check_base(self) -> Self:
        if self.base is not None and not self.order:
            raise ValueError("base without order: there are no n-grams to mix it with")
        return self


class SpottingConfig(Settings):
    """Which hits of keywords count; `spotting.yaml` of a model folder."""

    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    """Least score of hits, by keyword."""
    threshold: float = Field(0.5, ge=0, le=1)
    """Of keywords that have none of their own."""
    false_alarms: float | None = Field(None, ge=0)
    """An hour, of all keywords together, for which they were tuned."""


_Share = Annotated[float, Field(ge=0, le=1)]


class ConfidenceConfig(Settings):
    """How sure words are, fitted on a dev set: the weights of a logistic regression."""

    bias: FiniteFloat
    weights: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
    """Of a word's mean and least log-probability of its tokens, the mean entropy of its steps (all
    in nats), and the logarithm of the number of its tokens."""
    curve: tuple[tuple[_Share, _Share], ...] = ()
    """Points, in order, between which what the regression says is led to how often it is right;
    none leaves it."""

    @model_validator(mode="after")
    def _check(self) -> "ConfidenceConfig":
        if list(self.curve) != sorted(self.curve):
            raise ValueError("curve: points are expected in order")
        return self


class DecodingConfig(Settings):
    """How text is found in the network's output; `decoding.yaml` of a model folder."""

    beam: int = Field(1, ge=1, le=MAX_BEAM)
    """Prefixes kept in each step; 1 without a language model is the best path."""
    nbest: int = Field(1, ge=1, le=MAX_BEAM)
    """Hypotheses given for each utterance."""
    lm_weight: float = Field(1.0, ge=0)
    """On the language model's log-probabilities."""
    word_bonus: float = 0.0
    """Added for each word, in nats."""
    unknown_score: float = Field(-10.0, le=0)
    """Added for each word that a language model of words lacks, in nats."""
    beam_threshold: float = Field(20.0, gt=0)
    """Prefixes are dropped that are so many nats below the best."""
    token_threshold: float = Field(10.0, gt=0)
    """Tokens are left out of a step that are so many nats below its best."""
    blank_threshold: float = Field(0.999, gt=0)
    """A step whose blank has this probability or more is taken for a blank, which loses at most the
    rest of its probability; above 1 none is."""
    lm: str | None = None
    """Name of the language model's file in the model folder."""
    lexicon: str | None = None
    """Name of the lexicon's file in the model folder."""
    neural_lm: str | None = None
    """Name of the folder, in the model folder, of the neural model that ranks readings anew."""
    neural_share: float = Field(0.0, ge=0, le=1)
    """Of the language model's weight, that the neural one takes from the n-gram."""
    rescored: int = Field(20, ge=1, le=MAX_BEAM)
    """Readings that it ranks."""
    confidence: ConfidenceConfig | None = None
    """What confidences of words are; none is the mean probability of their tokens."""

    @property
    def is_best_path(self) -> bool:
        """Whether the best path is read off, without a search."""
        ranks = self.neural_lm and self.neural_share
        return self.beam == 1 and not (self.lm or self.lexicon or ranks)

    def describe(self) -> str:
        """What is out of the ordinary, in a line."""
        if self.is_best_path:
            return "best path"
        helps = [f"{name} {value}" for name in ("lm", "lexicon") if (value := getattr(self, name))]
        if self.neural_lm and self.neural_share:
            helps.append(f"{self.neural_lm} with a share of {self.neural_share:g}")
        weights = f"weight {self.lm_weight:g}, word bonus {self.word_bonus:g}"
        return ", ".join([f"beam {self.beam}", *helps, weights])


class SynthesisConfig(Settings):
    """Speech from synthetic voices: how much, and how varied."""

    hours: float = Field(1.0, gt=0)
    """Hours of training speech."""
    num_dev: int = Field(300, ge=1)
    """Dev utterances."""
    num_test: int = Field(500, ge=1)
    """Test utterances."""
    num_voices: int = Field(300, ge=1)
    """Training voices of an engine, at most: pairs of accent and variant or speaker, each with a
    rate, and eSpeak NG's with a pitch."""
    voice_models: tuple[Path, ...] = ()
    """Folders with neural voices, which speak in place of eSpeak NG: of Piper, or of another model
    of sherpa-onnx."""
    speakers: tuple[int, ...] = ()
    """Numbers of the speakers of each model that speak; none are all."""
    blends: int = Field(0, ge=0)
    """Speakers to be added to the training set's of each model, mixed of two of them; for models
    that hold speakers as vectors (Kokoro, Kitten)."""
    speeds: tuple[float, float] = (0.8, 1.25)
    """Range of how fast neural voices speak; 1 is the model's own."""
    espeak_share: float = Field(0.0, ge=0, lt=1)
    """Share of the utterances that eSpeak NG speaks where there are `voice_models`."""
    silence: tuple[float, float] = (0.05, 0.4)
    """Range of the silence before and after, each, in seconds; from 0 up."""
    trim_db: float = Field(0.0, ge=0, le=60)
    """Edges of training speech are cut, as by a trimmer of silence, that stay below a level drawn
    from 60 to `60 - trim_db` decibels under the loudest 10 ms; 0 cuts nothing."""
    sample_rate: int = Field(8000, ge=8000, le=48000)
    """Hz."""
    seed: int = Field(1, ge=0)
    """Of everything drawn."""

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        shortest, longest = self.silence
        if not 0 <= shortest <= longest <= 60:
            raise ValueError(f"silence {shortest:g} to {longest:g} s is no range within 0 to 60")
        slowest, fastest = self.speeds
        if not 0.25 <= slowest <= fastest <= 4:
            raise ValueError(f"speeds {slowest:g} to {fastest:g} are no range within 0.25 to 4")
        return self


class RecordingsConfig(Settings):
    """How a corpus of one's own is divided, and its transcripts written."""

    dev: float = Field(0.1, gt=0, lt=0.5)
    """Share of the utterances that choose the epoch."""
    test: float = Field(0.1, gt=0, lt=0.5)
    """Share of the utterances that are scored in the end."""
    seed: int = Field(0, ge=0)
    """Of who is in which."""
    train_minutes: float | None = Field(None, gt=0)
    """Speech to train on, as if there were no more: to see what more recordings would bring. Less
    is part of more, and the other sets are the same."""
    normalizer: Literal["none", "basic", "english"] = "basic"
    """What is done to transcripts: nothing; lower case without punctuation; and, for English,
    numbers and the like as words."""


class SentencesConfig(SynthesisConfig):
    """Sentences that synthetic voices speak."""

    normalizer: Literal["none", "basic", "english"] = "basic"
    """What is done to transcripts; the voices read the sentences as they are."""


class Config(Settings):
    """A whole configuration: what `conf/<corpus>/<name>.yaml` may hold."""

    features: FeatureConfig = FeatureConfig()
    tokens: TokenConfig = TokenConfig()
    augment: AugmentConfig = AugmentConfig()
    encoder: EncoderConfig = EncoderConfig()
    training: TrainingConfig = TrainingConfig()
    lm: LanguageModelConfig = LanguageModelConfig()
    corpus: dict[str, Any] = {}
    """What the recipe's data preparation takes; checked against the recipe's own class."""

    @model_validator(mode="after")
    def _check_joining(self) -> Self:
        if self.augment.join_probability and self.features.normalization == "speaker":
            raise ValueError(
                "augment.join_probability: utterances that are joined are normalized together, "
                "and features.normalization is speaker"
            )
        return self

    @model_validator(mode="after")
    def _check_recorded(self) -> Self:
        augment = self.augment
        if augment.noise_files and not augment.noise_probability:
            raise ValueError("augment.noise_files without augment.noise_probability: never heard")
        if augment.reverb_files and not augment.reverb_probability:
            raise ValueError("augment.reverb_files without augment.reverb_probability: never heard")
        if augment.codecs and self.training.stream:
            raise ValueError(
                "augment.codecs: shards that training.stream reads in every epoch are not packed"
            )
        return self


_T = TypeVar("_T", bound=Settings)


def parse_settings(values: Mapping[str, Any], kind: type[_T], where: str) -> _T:
    """Check plain values against `kind`; `where` names their origin in errors.

    Raises:
        ConfigError: an unknown key ("did you mean") or a bad value.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error, kind)}") from error


def _explain(error: ValidationError, kind: type[Settings]) -> str:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location) or "the whole"
    if first["type"] != "extra_forbidden":
        return f"{key}: {first['msg'].removeprefix('Value error, ')}"
    fields = _fields_at(kind, location[:-1])
    close = difflib.get_close_matches(location[-1], fields, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(fields)}"
    return f"{key}: unknown key; {hint}"


def _fields_at(kind: type[Settings], sections: Sequence[str]) -> list[str]:
    for section in sections:
        annotation = kind.model_fields[section].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, Settings)):
            return []
        kind = annotation
    return list(kind.model_fields)
