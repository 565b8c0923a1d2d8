"""Ensembles against numpy on their members' rewards."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmbench.cli.main import run
from rmbench.errors import ConfigError, ScoringError
from rmbench.models.ensemble import Ensemble
from rmbench.models.resolve import LoadedModel, Runtime, load_model, model_hash
from rmbench.types import CountedModel, Scored, SizedModel, TrainedModel, Turn

BATCH = [
    [Turn(role="user", content="Tell me of rain."), Turn(role="assistant", content=text)]
    for text in ("Rain is wet.", "- one\n- two", "No", "", "**Rain** falls, and then it stops. " * 9)
]
MEMBERS = ("length", "markdown", "random", "builtin:linear")
OWN = """
class Fails:
    def fingerprint(self):
        return {"kind": "fails"}

    def score(self, batch):
        raise ValueError("not today")

class Short(Fails):
    def score(self, batch):
        return [0.0]

class Infinite(Fails):
    def score(self, batch):
        return [float("inf")] * len(batch)

class Full(Fails):
    def score(self, batch):
        raise RuntimeError("CUDA out of memory")

class Compares:
    def fingerprint(self):
        return {"kind": "compares"}

    def prefer(self, batch):
        return [0.5] * len(batch)
"""


def load(spec: str, **options: str) -> Ensemble:
    model = load_model(f"ensemble:{spec}", options).model
    assert isinstance(model, Ensemble)
    return model


def rewards(model: Any, batch: Any = BATCH) -> list[float]:
    return [x.reward if isinstance(x, Scored) else float(x) for x in model.score(batch)]


@pytest.mark.parametrize(
    ("options", "reduce"),
    [
        ({}, lambda x: x.mean(axis=0)),
        ({"how": "min"}, lambda x: x.min(axis=0)),
        ({"how": "median"}, lambda x: np.sort(x, axis=0)[1:3].mean(axis=0)),
        (
            {"how": "mean-minus-std", "k": "0.5"},
            lambda x: x.mean(axis=0) - 0.5 * np.sqrt(((x - x.mean(axis=0)) ** 2).mean(axis=0)),
        ),
        ({"how": "min", "scale": "50,1,2,1"}, lambda x: (x / [[50], [1], [2], [1]]).min(axis=0)),
        ({"shift": "3", "scale": "2"}, lambda x: (x.mean(axis=0) - 3) / 2),
    ],
)
def test_rewards_equal_numpy_on_the_members(
    options: dict[str, str], reduce: Callable[[Any], Sequence[float]]
) -> None:
    own = np.array([rewards(load_model(spec).model) for spec in MEMBERS])
    model = load(",".join(MEMBERS), **options)
    assert rewards(model) == pytest.approx(list(reduce(own)), rel=1e-12)
    assert [rewards(model, [turns])[0] for turns in BATCH] == pytest.approx(rewards(model), rel=1e-9)
    assert model.score([]) == []


def test_the_identity_is_the_members_and_the_rule() -> None:
    same = [load("length,random"), load(" length , random ", how="mean"), load("length;random", k="3")]
    assert len({json.dumps(dict(model.fingerprint())) for model in same}) == 1
    others = [
        load("random,length"),
        load("length,markdown"),
        load("length,random", how="min"),
        load("length,random", how="mean-minus-std"),
        load("length,random", how="mean-minus-std", k="2"),
        load("length,random", scale="2,1"),
        load("length,random", shift="0,1"),
    ]
    assert len({json.dumps(dict(model.fingerprint())) for model in (same[0], *others)}) == 8


def test_tokens_and_truncation_come_from_the_members_that_tell(
    make_checkpoint: Callable[..., Path],
) -> None:
    one, two = (make_checkpoint(folder=name, seed=k) for k, name in enumerate(("one", "two")))
    model = load_model(f"ensemble:{one},length,{two}", {}, Runtime(max_length=64, device="cpu")).model
    assert isinstance(model, SizedModel)
    assert isinstance(model, TrainedModel)
    scored = model.score(BATCH)  # type: ignore[attr-defined]
    assert [s.n_tokens for s in scored] == model.lengths(BATCH)
    assert [s.truncated for s in scored] == [False, False, False, False, True]
    assert model.overlap([BATCH[0][:1]]) is None
    plain = load("length,markdown")
    assert not isinstance(plain, SizedModel | TrainedModel)
    assert plain.score(BATCH)[0] == Scored(6.0)


def test_the_size_is_that_of_all_members_where_all_tell() -> None:
    model = load("builtin:linear,builtin:linear")
    alone: Any = load_model("builtin:linear").model
    assert isinstance(model, CountedModel)
    assert model.n_parameters() == 2 * alone.n_parameters()
    assert not isinstance(load("builtin:linear,length"), CountedModel)


def test_members_have_options_of_their_own(make_checkpoint: Callable[..., Path]) -> None:
    classifier = make_checkpoint(n_labels=3)
    spec = f"length,{classifier},random"
    found = {label: load(spec, **{"2.label": label}) for label in ("0", "2")}
    for label, model in found.items():
        alone = [load_model("length"), load_model(str(classifier), {"label": label}), load_model("random")]
        expected = np.mean([rewards(each.model) for each in alone], axis=0)
        assert rewards(model) == pytest.approx(list(expected), rel=1e-6)
        assert model.fingerprint()["member_2"] == model_hash(alone[1])
    assert found["0"].fingerprint() != found["2"].fingerprint()
    # A name in tables is a name, and no part of what the numbers are.
    named = load("length,random", **{"2.seed": "5", "1.name": "long"})
    assert named.display_name == "ensemble-mean:long,random"
    assert named.fingerprint() == load("length,random", **{"2.seed": "5"}).fingerprint()
    assert named.fingerprint() != load("length,random").fingerprint()
    # An ensemble of an ensemble: its members' options have two numbers.
    nested = load("length;ensemble:length,random", **{"2.2.seed": "5", "2.how": "min"})
    inner = load("length,random", **{"2.seed": "5"}, how="min")
    assert nested.fingerprint()["member_2"] == model_hash(LoadedModel("", inner, ""))


def test_the_overlap_is_the_most_of_any_member() -> None:
    class Trained:
        def __init__(self, name: str, known: set[str] | None) -> None:
            self.name, self.known = name, known

        def fingerprint(self) -> dict[str, str]:
            return {"kind": self.name}

        def score(self, batch: Any) -> list[float]:
            return [0.0] * len(batch)

        def overlap(self, prompts: Any) -> dict[str, int] | None:
            if self.known is None:
                return None
            return {"exact": sum(prompt[0]["content"] in self.known for prompt in prompts)}

    def seen_by(*models: Any) -> dict[str, int] | None:
        members = [LoadedModel("m", model, "m") for model in models]
        model: Any = Ensemble(members, "mean", 1.0, [0] * len(members), [1] * len(members))
        found: dict[str, int] | None = model.overlap([Turn(role="user", content=text)] for text in "wxyz")
        return found

    some, none, unknown = Trained("a", {"x", "y"}), Trained("b", set()), Trained("c", None)
    assert seen_by(some, Trained("d", {"z"}), unknown) == {"exact": 2}
    assert seen_by(none, none) == {"exact": 0}
    assert seen_by(none, load_model("length").model) == {"exact": 0}, "a rule is not trained"
    assert seen_by(none, unknown) is None, "unknown is not zero"
    assert seen_by(none, load_model("builtin:linear").model) is None, "it was trained, and says not on what"
    assert seen_by(unknown) is None


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Fails", "raised ValueError: not today"),
        ("Short", "returned 1 rewards for 5"),
        ("Infinite", "returned inf for 5 of 5"),
    ],
)
def test_a_member_that_fails_is_named(own: Path, name: str, message: str) -> None:
    with pytest.raises(ScoringError, match=f"ensemble member 2 \\(own:{name}\\).*{message}"):
        load(f"length,{own}:{name}").score(BATCH)


def test_memory_that_runs_out_reaches_the_engine(own: Path) -> None:
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        load(f"length,{own}:Full").score(BATCH)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("length", {}, "expected at least two models"),
        ("length,,random", {}, "none empty"),
        ("length,rondom", {}, "ensemble member 2 (rondom): unknown model 'rondom'. Did you mean 'random'?"),
        ("length,{own}:Compares", {}, "member 2 ({own}:Compares): it compares pairs"),
        ("scores:{scores},length", {}, "member 1 (scores:{scores}): it looks rewards up by item"),
        ("length,random", {"how": "worst-rank"}, "unknown value 'worst-rank'"),
        ("length,random", {"scale": "1,2,3"}, "option 'scale' is '1,2,3'; expected one number, or 2"),
        ("length,random", {"scale": "1,0"}, "expected numbers above 0"),
        ("length,random", {"shift": "a"}, "option 'shift' is 'a'"),
        (
            "length,random",
            {"hwo": "min"},
            "unknown option 'hwo'. Did you mean 'how'? Known: 1.OPTION, 2.OPTION, ",
        ),
        ("length,random", {"3.seed": "1"}, "option '3.seed': there is no member 3; expected 1 to 2"),
        ("length,random", {"02.seed": "1"}, "there is no member 02"),
        ("length,random", {"2.": "1"}, "unknown option '2.'"),
        (
            "length,random",
            {"2.sede": "1"},
            "member 2 (random): --model random: unknown option 'sede'. Did you",
        ),
        ("length,random", {"2.seed": "x"}, "option 'seed' is 'x'; expected a whole number"),
        ("length,random", {"1.seed": "1"}, "member 1 (length): --model length: unknown option 'seed'"),
        ("length,random", {"k": "-1"}, "option 'k' is -1.0"),
    ],
)
def test_a_bad_spec_is_one_line(
    own: Path, tmp_path: Path, spec: str, options: dict[str, str], message: str
) -> None:
    scores = tmp_path / "scores.jsonl"
    scores.write_text('{"id": "a", "rewards": [0, 1]}\n')
    with pytest.raises(ConfigError) as caught:
        load(spec.format(own=own, scores=scores), **options)
    assert message.format(own=own, scores=scores) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_evaluated_and_checked_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = "ensemble:builtin:linear,length,markdown"
    out = ["--results", str(tmp_path / "results")]
    options = ["-M", "how=min", "-M", "scale=1,200,0.05", "-M", "2.name=long"]
    assert run(["eval", "--model", spec, *options, "--task", "preference", *out]) == 0
    assert run(["eval", "--model", "ensemble:length,random,nothing", "--task", "preference", *out]) == 2
    assert "ensemble member 3 (nothing)" in capsys.readouterr().err
    assert run(["check", "--model", spec, *options]) == 0


COUNTING = """
import os
from pathlib import Path

class Counts:
    def __init__(self, sign: float = 1.0, bad: bool = False):
        self.sign, self.bad = sign, bad

    def fingerprint(self):
        return {"kind": "counts", "sign": str(self.sign), "bad": str(self.bad)}

    def score(self, batch):
        with Path(os.environ["SEEN"]).open("a") as file:
            file.write(f"{self.sign} {len(batch)}\\n")
        found = [self.sign * len(turns[-1]["content"]) for turns in batch]
        return [float("nan"), *found[1:]] if self.bad else found
"""


@pytest.fixture
def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Callable[[], dict[str, int]]]:
    """A model in a file, and how many conversations each sign of it was asked for since the last call."""
    seen = tmp_path / "seen"
    monkeypatch.setenv("SEEN", str(seen))
    (tmp_path / "counts.py").write_text(COUNTING)

    def asked() -> dict[str, int]:
        found: dict[str, int] = {}
        for line in seen.read_text().splitlines() if seen.exists() else []:
            sign, _, n = line.partition(" ")
            found[sign] = found.get(sign, 0) + int(n)
        seen.unlink(missing_ok=True)
        return found

    return tmp_path / "counts.py", asked


def test_members_that_were_evaluated_are_not_asked_again(
    counting: tuple[Path, Callable[[], dict[str, int]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, asked = counting

    def evaluate(spec: str, *options: str) -> dict[str, Any]:
        given = [x for option in options for x in ("-M", option)]
        place = ["--results", f"{tmp_path}/results", "--store", f"{tmp_path}/store", "--limit", "5"]
        assert (
            run(["eval", "--model", spec, *given, "--task", "preference", *place, "--quiet", "--json"]) == 0
        )
        (record,) = json.loads(capsys.readouterr().out)
        return dict(record)

    plus, minus = f"{path}:Counts", f"{path}:Counts"
    evaluate(plus)
    n_texts = asked()["1.0"]
    first = evaluate(f"ensemble:{plus},{minus}", "2.sign=-2")
    assert asked() == {"-2.0": n_texts}
    assert first["provenance"]["computed"] == n_texts
    worst = evaluate(f"ensemble:{plus},{minus}", "2.sign=-2", "how=min")
    nested = evaluate(f"ensemble:{plus};ensemble:{plus},{minus}", "2.2.sign=-2", "2.how=min", "scale=2")
    assert asked() == {}
    assert {r["provenance"]["computed"] for r in (worst, nested)} == {0}
    evaluate(f"{minus}", "sign=-2")
    assert asked() == {}  # the other way round, too
    # min of x and -2x is -2x for lengths: the mean of x and that, halved, ranks as -x does.
    accuracy = [r["metrics"]["accuracy"]["value"] for r in (first, worst, nested)]
    assert accuracy[0] == accuracy[1] == accuracy[2]


def test_a_member_without_an_answer_is_named_in_an_evaluation(
    counting: tuple[Path, Callable[[], dict[str, int]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = counting
    spec = f"ensemble:length,{path}:Counts"
    place = ["--results", f"{tmp_path}/results", "--store", f"{tmp_path}/store", "--limit", "5"]
    assert run(["eval", "--model", spec, "-M", "2.bad=yes", "--task", "preference", *place]) == 1
    said = capsys.readouterr().err
    assert "ensemble member 2 (counts:Counts) returned nan for " in said
    (path.parent / "fails.py").write_text(OWN)
    failing = f"ensemble:length,{path.parent}/fails.py:Fails"
    assert run(["eval", "--model", failing, "--task", "preference", *place]) == 1
    assert "ensemble member 2 (fails:Fails): the model raised ValueError" in capsys.readouterr().err
