"""vLLM and SGLang with recipes: servers that run a replica give the reward of its own code, or are refused."""

import json
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import replicas
from hub_cache import put, use_cache
from replicas import Make, Replica
from served_replicas import Engine, Serving, serving

from rmbench.cli.main import run
from rmbench.errors import ConfigError, ScoringError
from rmbench.models.resolve import load_model
from rmbench.models.runtime import Runtime
from rmbench.types import Turn

TEXTS = [
    ("What is the capital of France?", "Paris is the capital of France."),
    ("What is the capital of France?", "No."),
    ("Tell me all.", "The quick brown fox jumps over the lazy dog. " * 3),
]
CONVERSATIONS = [
    [Turn(role="user", content=prompt), Turn(role="assistant", content=reply)] for prompt, reply in TEXTS
]
Build = Callable[[Make], Replica]
TAKEN: dict[str, Build] = {
    "trl-pad-eos": replicas.trl_pad_eos,
    "openrlhf": replicas.openrlhf,
    "openrlhf-no-eos": partial(replicas.openrlhf, template=replicas.NO_EOS),
    "openrlhf-normalised": partial(replicas.openrlhf, normalize_reward=True, mean=0.5, std=2.0),
}


def load(scheme: str, server: Serving, **options: str) -> Any:
    return load_model(f"{scheme}:{server.url}", options, Runtime(offline=True)).model


def rewards(model: Any) -> list[float]:
    return [scored.reward for scored in model.score(CONVERSATIONS)]


@pytest.mark.parametrize("scheme", ["vllm", "sglang"])
@pytest.mark.parametrize("name", TAKEN)
def test_a_recipe_of_text_and_token_is_done_here(make_checkpoint: Make, name: str, scheme: str) -> None:
    """The server has a linear `score` at the last token of what it gets; the rest is rmbench's."""
    replica = TAKEN[name](make_checkpoint)
    expected = [replica.reward(*pair) for pair in TEXTS]
    with serving(scheme, replica.folder) as server:
        model = load(scheme, server)
        assert rewards(model) == pytest.approx(expected, abs=1e-5)
        assert [model.score([c])[0].reward for c in CONVERSATIONS] == pytest.approx(expected, abs=1e-5)
    hf: Any = load_model(str(replica.folder), {}, Runtime(device="cpu", offline=True)).model
    assert model.fingerprint()["recipe"] == hf.fingerprint()["recipe"]
    assert model.fingerprint()["weights"] == hf.fingerprint()["weights"]
    assert any(note.startswith("recipe ") for note in model.notes())


@pytest.mark.parametrize("scheme", ["vllm", "sglang"])
def test_a_plain_classifier_has_no_recipe_and_options_are_taken(make_checkpoint: Make, scheme: str) -> None:
    folder = make_checkpoint("llama", template=replicas.WITH_NEWLINE)
    for options in ({}, {"strip_newline": "yes"}, {"read_at": "last_eos"}, {"read_at": "before_eos"}):
        expected: Any = load_model(str(folder), options, Runtime(device="cpu", offline=True)).model
        with serving(scheme, folder) as server:
            model = load(scheme, server, **options)
            assert rewards(model) == pytest.approx(rewards(expected), abs=1e-5)
        assert ("recipe" in model.fingerprint()) == bool(options)
        assert model.fingerprint()["kind"] == scheme


def mlp(make: Make) -> tuple[Replica, Engine]:
    replica = replicas.mlp_score(make)
    from safetensors.torch import load_file

    head = load_file(replica.folder / "model.safetensors")

    def every(states: Any) -> Any:
        inner = (states @ head["score.0.weight"].T + head["score.0.bias"]).relu()
        return inner @ head["score.2.weight"].T + head["score.2.bias"]

    return replica, Engine(replica.folder, every)


def test_token_classify_reads_the_last_token_of_a_model_with_a_head_of_its_own(make_checkpoint: Make) -> None:
    replica, engine = mlp(make_checkpoint)
    expected = [replica.reward(*pair) for pair in TEXTS]
    with serving("vllm", replica.folder, engine) as server:
        with pytest.raises(
            ConfigError, match="Qwen2ForRewardModel at every token: pass -M task=token_classify"
        ):
            load("vllm", server)
        model = load("vllm", server, task="token_classify")
        assert rewards(model) == pytest.approx(expected, abs=1e-5)
        path, body = server.asked[-1]
        assert path == "/pooling"
        assert body.keys() == {"model", "input", "task", "use_activation"}
        assert model.fingerprint()["task"] == "token_classify"
        server.faults = [(200, {"data": [{"index": 0, "object": "pooling", "data": [[1.0]]}]})] * 9
        with pytest.raises(ScoringError, match="is no reply of /pooling"):
            load("vllm", server, task="token_classify", retries="0", output="any").score(CONVERSATIONS[:1])


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (replicas.armorm, "recipe armorm reads a head of regression_layer and a gate"),
        (replicas.grm, "recipe grm reads a head of v_head\\.summary\\.\\*"),
        (replicas.starling, "its body has other names|a head of v_head"),
        (replicas.value_head, "recipe value-head reads a head of v_head"),
        (replicas.beaver, "recipe beaver-reward reads a head of score_head"),
        (replicas.mlp_score, "recipe mlp-score reads a head of score.0, score.2"),
    ],
)
def test_a_recipe_with_another_head_is_refused_and_named(
    make_checkpoint: Make, build: Build, expected: str
) -> None:
    replica = build(make_checkpoint)
    with (
        serving("sglang", replica.folder, Engine.__new__(Engine)) as server,
        pytest.raises(ConfigError, match=expected),
    ):
        load("sglang", server)
    if build is not replicas.mlp_score:
        with pytest.raises(ConfigError, match=expected):
            load_model(f"vllm:{replica.folder}", {}, Runtime(offline=True))


def test_the_engine_gets_what_the_config_lacks(
    make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM is not here: what it is called with is what its documentation says, and its answers are made up."""
    two = {"id2label": {"0": "A", "1": "B"}, "label2id": {"A": 0, "B": 1}}
    replica = replicas.openrlhf(make_checkpoint, **two)
    engine, made = Engine(replica.folder), []

    class LLM:
        def __init__(self, **arguments: Any) -> None:
            made.append(arguments)
            config = types.SimpleNamespace(dtype="torch.float32")
            self.llm_engine = types.SimpleNamespace(model_config=config)

        def classify(self, prompts: Any, *, pooling_params: Any, use_tqdm: bool) -> Any:
            import torch

            rows = [torch.tensor(engine.every_token(p["prompt_token_ids"])[-1]) for p in prompts]
            rows = [row.sigmoid() if pooling_params.use_activation else row for row in rows]
            return [types.SimpleNamespace(outputs=types.SimpleNamespace(probs=row.tolist())) for row in rows]

        def encode(self, prompts: Any, *, pooling_params: Any, pooling_task: str, use_tqdm: bool) -> Any:
            import torch

            assert pooling_task == "token_classify"
            rows = [torch.tensor(engine.every_token(p["prompt_token_ids"])) for p in prompts]
            rows = [row.sigmoid() if pooling_params.use_activation else row for row in rows]
            return [types.SimpleNamespace(outputs=types.SimpleNamespace(data=row)) for row in rows]

    class PoolingParams:
        def __init__(self, use_activation: bool = True) -> None:
            self.use_activation = use_activation

    vllm = types.SimpleNamespace(LLM=LLM, PoolingParams=PoolingParams, __version__="0.18.0")
    platform = types.SimpleNamespace(current_platform=types.SimpleNamespace(device_type="cpu"))
    monkeypatch.setitem(__import__("sys").modules, "vllm", vllm)
    monkeypatch.setitem(__import__("sys").modules, "vllm.platforms", platform)
    for name in ("VLLM_NO_USAGE_STATS", "VLLM_LOGGING_LEVEL", "VLLM_WORKER_MULTIPROC_METHOD",
                 "VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_OMP_THREADS_BIND", "HF_HUB_OFFLINE"):  # fmt: skip
        monkeypatch.setenv(name, "1")
    expected = [replica.reward(*pair) for pair in TEXTS]
    for task in ("classify", "token_classify"):
        model: Any = load_model(f"vllm:{replica.folder}", {"task": task}, Runtime(offline=True)).model
        assert rewards(model) == pytest.approx(expected, abs=1e-5)
        assert made[-1]["hf_overrides"] == {
            "num_labels": 1,
            "architectures": ["Qwen2ForSequenceClassification"],
        }
        assert made[-1]["runner"] == "pooling"


def test_a_repository_of_the_hub_is_looked_at_too(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = use_cache(monkeypatch, tmp_path / "hub")
    replica = replicas.value_head(make_checkpoint)
    put(cache, "org/rm", "a" * 40, replica.folder)
    with pytest.raises(ConfigError, match="recipe value-head reads a head of v_head"):
        load_model("vllm:org/rm", {}, Runtime(offline=True))
    with serving("vllm", replica.folder, Engine.__new__(Engine)) as server:
        server.card["root"] = "org/rm"
        with pytest.raises(ConfigError, match="recipe value-head reads a head of v_head"):
            load("vllm", server)


def test_padding_that_is_eos_is_told(make_checkpoint: Make) -> None:
    folder = make_checkpoint("llama", pad="</s>")
    with serving("vllm", folder) as server:
        assert any("-M read_at=before_eos" in note for note in load("vllm", server).notes())
        chosen = load("vllm", server, read_at="before_eos")
    assert not any("pass -M read_at=before_eos" in note for note in chosen.notes())


def test_ids_are_sent_and_nothing_is_templated_twice(make_checkpoint: Make) -> None:
    folder = make_checkpoint("llama")
    hf: Any = load_model(str(folder), {}, Runtime(device="cpu", offline=True)).model
    ids = [list(row.ids) for row in hf.encode(CONVERSATIONS)]
    with serving("sglang", folder) as server:
        rewards(load("sglang", server))
        assert server.asked[-1] == ("/classify", {"model": "rm", "input_ids": ids})


def test_what_sglang_says_is_checked(make_checkpoint: Make, tmp_path: Path) -> None:
    folder = make_checkpoint("llama")
    with serving("sglang", folder) as server:
        model = load("sglang", server, retries="1")
        entry = {"embedding": [1.5], "meta_info": {"prompt_tokens": 3}}
        server.faults = [(200, [entry])] * 2  # it read other tokens
        with pytest.raises(ScoringError, match="is no reply of /classify"):
            model.score(CONVERSATIONS[:1])
        server.faults = [(200, [{"embedding": [0.1] * 32}])]  # an embedding model
        with pytest.raises(ConfigError, match="gives 32 numbers for a text, and the config has 1 labels"):
            model.score(CONVERSATIONS[:1])
        server.faults = [(503, b"busy"), (200, sorted)][:1]
        assert len(rewards(model)) == 3
        server.faults = [(400, {"error": {"message": "The input (9 tokens) is longer than the model's"}})]
        with pytest.raises(ScoringError, match="longer than the model"):
            model.score(CONVERSATIONS[:1])
        server.info["is_generation"] = True
        with pytest.raises(ConfigError, match="start the server with --is-embedding"):
            load("sglang", server)
        server.info = {"is_generation": False, "model_path": "/nowhere/at/all"}
        with pytest.raises(ConfigError, match="-M tokenizer=PATH"):
            load("sglang", server)


def test_probabilities_are_refused_unless_asked_for(make_checkpoint: Make) -> None:
    folder = make_checkpoint("llama")
    squashed = Engine(folder)
    plain = squashed.every_token
    squashed.every_token = lambda ids: [[0.5 + 0.4 / (1 + abs(row[0]))] for row in plain(ids)]  # type: ignore[method-assign]
    with serving("sglang", folder, squashed) as server:
        with pytest.raises(
            ConfigError, match=r"may be probabilities.* Take them as they are with -M output=any"
        ):
            load("sglang", server)
        model = load("sglang", server, output="any")
        assert any("may be a probability" in note for note in model.notes())


def test_a_tokenizer_needs_no_weights_and_a_remark_says_what_is_not_known(
    make_checkpoint: Make, tmp_path: Path
) -> None:
    folder = make_checkpoint("llama")
    with serving("sglang", folder) as server:
        seen = rewards(load("sglang", server))
        server.info["model_path"] = "org/elsewhere"
        (tmp_path / "bare").mkdir()
        for path in folder.iterdir():
            if path.suffix != ".safetensors":
                (tmp_path / "bare" / path.name).write_bytes(path.read_bytes())
        model = load("sglang", server, tokenizer=str(tmp_path / "bare"))
        assert rewards(model) == seen
        assert model.fingerprint()["url"] == server.url
        notes = model.notes()
    assert any("cannot be looked at: whether their head is a plain `score` is unknown" in n for n in notes)
    assert any("weights cannot be seen" in note for note in notes)


def test_by_the_command_line(
    make_checkpoint: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replica = replicas.openrlhf(make_checkpoint)
    data = tmp_path / "items.jsonl"
    row = {
        "id": "a",
        "prompt": TEXTS[0][0],
        "responses": [t[1] for t in TEXTS],
        "gold": [2, 1, 0],
        "gold_kind": "graded",
    }
    data.write_text(json.dumps(row) + "\n")
    with serving("sglang", replica.folder) as server:
        ask = ["eval", "-m", f"sglang:{server.url}", "--data", str(data), "-t", "preference", "-q", "--json"]
        assert run([*ask, "--results", str(tmp_path / "r"), "--store", str(tmp_path / "s")]) == 0
        record = json.loads(capsys.readouterr().out)[0]
        expected = [replica.reward(TEXTS[0][0], t[1]) for t in TEXTS]
        pairs = [(0, 1), (0, 2), (1, 2)]
        right = sum(expected[a] > expected[b] for a, b in pairs) / 3
        assert record["metrics"]["accuracy"]["value"] == pytest.approx(right)
    assert run([*ask, "--results", str(tmp_path / "r2"), "--store", str(tmp_path / "s2")]) == 2
    assert "does not answer" in capsys.readouterr().err
    assert run(["eval", "-m", f"sglang:{replica.folder}", "-t", "preference", "-q"]) == 2
    assert "a folder goes through hf: or vllm:" in capsys.readouterr().err
