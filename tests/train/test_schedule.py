"""The learning rate as a function of the step, and the number of steps a recipe asks for."""

import pytest

from zhumo.recipe import Train
from zhumo.train.schedule import learning_rate, steps_asked


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 10, 333])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.99])
def test_up_then_down(schedule: str, steps: int, warmup: float) -> None:
    train = Train.model_validate({"schedule": schedule, "warmup": warmup})
    rates = [learning_rate(train, 2.0, step, steps) for step in range(steps)]
    rise = round(warmup * steps)
    assert all(0 < rate <= 2.0 for rate in rates)
    assert rates[:rise] == sorted(rates[:rise]) and rates[rise:] == sorted(rates[rise:], reverse=True)
    assert max(rates) == 2.0


def test_shapes_differ_in_the_middle() -> None:
    middle = {
        name: learning_rate(Train.model_validate({"schedule": name, "warmup": 0}), 1.0, 25, 100)
        for name in ("cosine", "linear", "constant")
    }
    assert middle == pytest.approx({"cosine": 0.8536, "linear": 0.75, "constant": 1.0}, abs=1e-4)


def test_horizon() -> None:
    assert steps_asked(Train(epochs=2.5), 10) == 25
    assert steps_asked(Train(epochs=0.01), 10) == 1
    assert steps_asked(Train(epochs=0), 10) == 0
    assert steps_asked(Train(steps=7), 10) == 7
    assert steps_asked(Train(minutes=1), 10) is None
