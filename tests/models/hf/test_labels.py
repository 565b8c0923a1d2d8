"""Several labels: one of them, or a weighted sum of their logits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmbench.errors import ConfigError
from rmbench.models.hf.checkpoint import Readout, choose_readout
from rmbench.models.resolve import load_model
from rmbench.types import Turn

NAMES = ("helpfulness", "honesty", "verbosity")
BATCH = [
    [Turn(role="user", content="Tell me all."), Turn(role="assistant", content=text)]
    for text in ("Paris.", "The quick brown fox jumps over the lazy dog. " * 3, "")
]


def three(make: Callable[..., Path]) -> Path:
    return make(n_labels=3, id2label=dict(enumerate(NAMES)), label2id={n: k for k, n in enumerate(NAMES)})


def test_the_reward_is_the_weighted_sum_of_logits(make_checkpoint: Callable[..., Path]) -> None:
    folder = str(three(make_checkpoint))

    def loaded(**options: str) -> Any:
        return load_model(folder, options).model

    logits = np.array([[s.reward for s in loaded(label=str(k)).score(BATCH)] for k in range(3)])
    for text, weights in (
        ("0.2,0.3,0.5", [0.2, 0.3, 0.5]),
        ("verbosity:-0.5, helpfulness:1", [1, 0, -0.5]),
        ("0,0,1", [0, 0, 1]),
    ):
        model = loaded(weights=text)
        found = [s.reward for s in model.score(BATCH)]
        assert found == pytest.approx(list(np.array(weights) @ logits), abs=1e-5)
        assert model.diagnose(BATCH[0])["own_forward_gap"] < 1e-5
        assert model.recast("float32").fingerprint() == model.fingerprint()
    by_name, by_place = loaded(weights="verbosity:-0.5,helpfulness:1"), loaded(weights="1,0,-0.5")
    assert by_name.fingerprint() == by_place.fingerprint()
    assert by_name.fingerprint() != loaded(label="0").fingerprint()
    assert loaded(label="0").fingerprint()["label"] == "0"


@pytest.mark.parametrize(
    ("label", "weights", "message"),
    [
        (None, None, "3 labels (0=helpfulness, 1=honesty, 2=verbosity); a reward is one number"),
        (3, None, "option 'label' is 3; the checkpoint has 0=helpfulness"),
        (0, "1,2,3", "'label' and 'weights' are both given"),
        (None, "1,2", "option 'weights' has 2 numbers; the checkpoint has 3 labels (0=helpfulness"),
        (None, "helpfullness:1", "unknown label 'helpfullness'. Did you mean 'helpfulness'?"),
        (None, "honesty:1,2", "has '2'; expected NAME:NUMBER"),
        (None, "honesty:1,honesty:2", "has 'honesty' twice"),
        (None, "honesty:x", "has 'x'; expected a number"),
        (None, "1,nan,2", "has 'nan'; expected a number"),
        (None, "", "has ''; expected a number"),
        (None, "0,0,0", "every reward would be 0"),
    ],
)
def test_what_does_not_fit_is_one_line(label: int | None, weights: str | None, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_readout("my-rm", NAMES, label, weights)
    assert str(caught.value).startswith("my-rm: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_may_have_a_colon() -> None:
    assert choose_readout("x", ("a:b", "c"), None, "a:b:2") == Readout(0, (2.0, 0.0))
