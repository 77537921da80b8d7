from asr.progress import Meter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_time_left_follows_the_sizes_and_speed_the_audio() -> None:
    clock, lines = Clock(), []
    meter = Meter({"a": 100, "b": 300}, clock, lines.append)
    meter.update("a", 5, 10)
    assert not lines
    clock.now = 20
    meter.update("a", 10, 10)
    assert lines == ["transcribing: 0 of 2 inputs, 25%, 1 min 00 s left, 0 x real time\n"]
    meter.finish("a", 600)
    clock.now = 40
    meter.update("b", 600, 1800)
    assert lines[1:] == ["transcribing: 1 of 2 inputs, 50%, 40 s left, 30 x real time\n"]
    assert meter.summary() == "20 min 00 s of audio in 40 s, 30 x real time"


def test_an_input_that_does_not_tell_its_length_counts_when_it_is_done() -> None:
    clock, lines = Clock(), []
    meter = Meter({"stdin": 0}, clock, lines.append)
    clock.now = 20
    meter.update("stdin", 100, None)
    assert lines == ["transcribing: 0 of 1 inputs, 5 x real time\n"]
