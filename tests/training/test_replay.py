from collections import Counter

import numpy as np
import pytest

from asr.config import MoreSpeechConfig
from asr.training.replay import Replay, count_more

ROWS = np.array([40, 41, 43, 50, 51])


@pytest.mark.parametrize(
    ("num_new", "share", "count"), [(80, 0.2, 20), (40, 0.5, 40), (3, 0.75, 9), (10, 0.01, 1)]
)
def test_the_share_is_of_all_utterances_of_an_epoch(num_new: int, share: float, count: int) -> None:
    replay = Replay.of(ROWS, num_new, share, seed=1)
    assert replay.count == count
    if share > 0.01:
        assert count / (count + num_new) == pytest.approx(share)


@pytest.mark.parametrize("count", [1, 2, 5, 13])
def test_all_are_drawn_before_one_comes_again(count: int) -> None:
    replay = Replay(rows=ROWS, count=count, seed=3)
    drawn: Counter[int] = Counter()
    for epoch in range(20):
        rows = replay.draw(epoch)
        assert len(rows) == count
        assert rows.tolist() == sorted(rows)
        drawn.update(rows.tolist())
        times = [drawn[row] for row in ROWS.tolist()]
        assert sum(times) == count * (epoch + 1)
        assert max(times) - min(times) <= 1


def test_a_draw_follows_from_seed_and_epoch() -> None:
    one, other = (Replay(rows=ROWS, count=2, seed=seed) for seed in (1, 2))
    draws = [one.draw(epoch).tolist() for epoch in range(8)]
    assert draws == [one.draw(epoch).tolist() for epoch in range(8)]
    assert draws != [other.draw(epoch).tolist() for epoch in range(8)]
    assert len({tuple(rows) for rows in draws}) > 2


def test_an_epoch_has_as_much_of_further_speech_as_weights_and_shares_say() -> None:
    def count(*settings: dict[str, float]) -> list[int]:
        sizes = [50, 1000, 3][: len(settings)]
        more = [MoreSpeechConfig.model_validate({"manifest": "m", **each}) for each in settings]
        return count_more(100, sizes, more)

    assert count({}, {"weight": 0.05}, {"weight": 2}) == [50, 50, 6]
    assert count({"share": 0.5}) == [100]
    counts = count({"share": 0.2}, {"weight": 0.1}, {"share": 0.3, "weight": 9})
    assert counts == [80, 100, 120]
    assert [counts[0] / 400, counts[2] / 400] == [0.2, 0.3]
    assert count({"weight": 0.001}) == [1]
