"""vLLM's servers, spoken to by a real one on loopback that answers as they do; engines are in tests/engines."""

import json
import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench.cli.main import run
from rmbench.errors import ConfigError, ScoringError
from rmbench.models.http import Patience
from rmbench.models.resolve import LoadedModel, load_model
from rmbench.models.runtime import Runtime
from rmbench.models.vllm.reward import NAMES, Rows, Switch, find_switch
from rmbench.types import Turn

TALKS = [
    (Turn(role="user", content="Say one thing about rain."), Turn(role="assistant", content=reply))
    for reply in ("Rain is wet.", "It falls from clouds, mostly in autumn.", "No.")
]


def logits(ids: Sequence[int], n_labels: int) -> list[float]:
    return [(sum(ids) * (7 + k) % 97) / 10 - 4 for k in range(n_labels)]


def sigmoid(row: Sequence[float]) -> list[float]:
    return [1 / (1 + math.exp(-x)) for x in row]


def softmax(row: Sequence[float]) -> list[float]:
    return [math.exp(x) / sum(map(math.exp, row)) for x in row]


class VLLM(ThreadingHTTPServer):
    """Classifies as `logits` says, with an activation unless `switch` is off; other names are ignored."""

    def __init__(self, root: str) -> None:
        self.cards: list[dict[str, Any]] = [{"id": "rm", "root": root, "max_model_len": 4096}]
        self.switch: str | None = "use_activation"
        self.activates, self.n_labels = True, 1
        self.faults: list[tuple[int, bytes]] = []
        self.asked: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: VLLM

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        answers = {"/v1/models": {"data": self.server.cards}, "/version": {"version": "0.32.0"}}
        self.tell(200 if self.path in answers else 404, json.dumps(answers.get(self.path, {})).encode())

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked.append(body)
        if server.faults:
            self.tell(*server.faults.pop(0))
            return
        rows = [logits(ids, server.n_labels) for ids in body["input"]]
        if server.activates and (server.switch is None or body.get(server.switch, True)):
            rows = [(sigmoid if server.n_labels == 1 else softmax)(row) for row in rows]
        data = [{"index": k, "label": None, "probs": row} for k, row in enumerate(rows)]
        self.tell(200, json.dumps({"data": data[::-1]}).encode())  # in no order

    def tell(self, code: int, content: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def folder(make_checkpoint: Callable[..., Path]) -> Path:
    return make_checkpoint("llama")


@pytest.fixture
def server(folder: Path) -> Iterator[VLLM]:
    made = VLLM(str(folder))
    yield made
    made.shutdown()
    made.server_close()


def served(server: VLLM, **options: str) -> LoadedModel:
    return load_model(f"vllm:{server.url}", options, Runtime(offline=True))


def tokens(folder: Path, **options: str) -> list[tuple[int, ...]]:
    """The tokens that `hf` reads."""
    model: Any = load_model(str(folder), options, Runtime(device="cpu", offline=True)).model
    return [row.ids for row in model.encode(TALKS)]


def rewards(loaded: LoadedModel) -> list[float]:
    model: Any = loaded.model
    return [scored.reward for scored in model.score(TALKS)]


@pytest.mark.parametrize("name", NAMES)
def test_rewards_are_logits_of_the_tokens_that_hf_reads(server: VLLM, folder: Path, name: str) -> None:
    server.switch = name
    loaded = served(server)
    assert loaded.name == "vllm:rm"
    assert rewards(loaded) == pytest.approx([logits(ids, 1)[0] for ids in tokens(folder)])
    assert server.asked[-1] == {"model": "rm", "input": [list(ids) for ids in tokens(folder)], name: False}


def test_several_labels_are_chosen_or_weighed(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint("llama", n_labels=2)
    server = VLLM(str(folder))
    server.n_labels = 2
    expected = [logits(ids, 2) for ids in tokens(folder, label="0")]
    assert rewards(served(server, label="1")) == pytest.approx([row[1] for row in expected])
    weighed = rewards(served(server, weights="0.5,-2"))
    assert weighed == pytest.approx([0.5 * a - 2 * b for a, b in expected])
    with pytest.raises(ConfigError, match="2 labels"):
        served(server)
    server.shutdown()
    server.server_close()


def test_what_the_server_does_not_take_is_cut_as_by_hf(server: VLLM, folder: Path) -> None:
    server.cards[0]["max_model_len"] = 24
    expected = [logits(ids, 1)[0] for ids in tokens(folder, max_length="24")]
    loaded = served(server)
    assert rewards(loaded) == pytest.approx(expected)
    model: Any = loaded.model
    assert [scored.truncated for scored in model.score(TALKS)] == [True, True, True]


def test_probabilities_are_refused_unless_asked_for(server: VLLM, folder: Path) -> None:
    server.switch = None
    with pytest.raises(ConfigError, match="may be probabilities"):
        served(server)
    loaded = served(server, output="any")
    assert rewards(loaded) == pytest.approx([sigmoid(logits(ids, 1))[0] for ids in tokens(folder)])
    model: Any = loaded.model
    assert any("may be a probability" in note for note in model.notes())
    assert model.fingerprint()["output"] == "any"


def test_a_model_without_an_activation_is_known_by_its_range(server: VLLM, folder: Path) -> None:
    server.activates = False
    assert rewards(served(server)) == pytest.approx([logits(ids, 1)[0] for ids in tokens(folder)])


@given(
    st.lists(st.lists(st.floats(-30, 30), min_size=2, max_size=2), min_size=2, max_size=2),
    st.sampled_from(NAMES),
    st.sampled_from([sigmoid, softmax]),
)
def test_no_probability_is_taken_for_a_logit(
    raw: list[list[float]], name: str, squashed: Callable[[Sequence[float]], list[float]]
) -> None:
    """Whatever the outputs: a switch is found only where off gives the logits."""

    def classify(_: Rows, switch: Switch) -> list[list[float]]:
        return raw if switch.get(name) is False else [squashed(row) for row in raw]

    def stubborn(_: Rows, _switch: Switch) -> list[list[float]]:
        return [squashed(row) for row in raw]

    with pytest.raises(ConfigError, match="may be probabilities"):
        find_switch(stubborn, [(1,), (2,)], "m")
    try:
        found = find_switch(classify, [(1,), (2,)], "m")
    except ConfigError:  # logits that cannot be told from probabilities
        assert all(abs(a - b) < 0.02 for row in raw for a, b in zip(row, squashed(row), strict=True)) or all(
            0 <= x <= 1 for row in raw for x in row
        )
    else:
        assert classify([(1,), (2,)], found) == raw


def test_every_name_refused_is_told() -> None:
    def classify(_: Rows, switch: Switch) -> list[list[float]]:
        raise ScoringError(f"Unexpected keyword argument {next(iter(switch))!r}")

    with pytest.raises(ConfigError, match=r"refuses every name .* use_activation"):
        find_switch(classify, [(1,), (2,)], "m")


def test_what_passes_is_asked_again(server: VLLM, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "rmbench.models.vllm.served.Patience", lambda **how: Patience(**{**how, "backoff_s": 0.01})
    )
    loaded = served(server)
    server.faults = [(503, b"busy"), (200, b"{"), (200, b'{"data": []}')]
    assert rewards(loaded) == pytest.approx([logits(ids, 1)[0] for ids in tokens(folder)])


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ([(400, b"the model's length is 64")], "HTTP 400.*the model's length is 64"),
        ([(404, b"no /classify")], "HTTP 404"),
        ([(200, b'{"data": [{"index": 0, "probs": [1.0]}]}')] * 2, "is no reply of /classify"),
    ],
)
def test_what_does_not_pass_ends_the_run(server: VLLM, faults: list[Any], expected: str) -> None:
    loaded = served(server, retries="1")
    server.faults = faults
    with pytest.raises(ScoringError, match=expected):
        rewards(loaded)


def test_identity_is_the_hash_of_weights_that_can_be_seen(server: VLLM, folder: Path) -> None:
    model: Any = served(server).model
    hf: Any = load_model(str(folder), {}, Runtime(device="cpu", offline=True)).model
    assert model.fingerprint()["weights"] == hf.fingerprint()["weights"]
    assert "url" not in model.fingerprint()
    server.cards[0]["root"] = "org/elsewhere"
    unseen: Any = served(server, tokenizer=str(folder)).model
    assert unseen.fingerprint()["url"] == server.url
    assert "weights" not in unseen.fingerprint()
    assert any("cannot be seen" in note for note in unseen.notes())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"model": "rn"}, "'rn'.*Did you mean 'rm'"),
        ({"gpus": "2"}, "option 'gpus' is for vLLM in this machine"),
        ({"tokenizer": "no/such/place"}, "no such folder"),
        ({"concurrency": "0"}, "option 'concurrency' is 0"),
        ({"max_length": "65"}, "max_length is 65; the server takes 64 tokens"),
        ({"label": "3"}, "option 'label' is 3"),
        ({"key_env": "RMBENCH_NO_SUCH"}, "RMBENCH_NO_SUCH"),
    ],
)
def test_bad_options_of_a_server(server: VLLM, options: dict[str, str], expected: str) -> None:
    server.cards[0]["max_model_len"] = 64
    with pytest.raises(ConfigError, match=expected):
        served(server, **options)


def test_several_models_and_none(server: VLLM, folder: Path) -> None:
    server.cards.append({"id": "other", "root": str(folder)})
    with pytest.raises(ConfigError, match="serves rm, other; choose one"):
        served(server)
    assert served(server, model="other").name == "vllm:other"
    server.cards = []
    with pytest.raises(ConfigError, match="serves nothing"):
        served(server)


def test_a_root_that_is_not_here_asks_for_the_tokenizer(server: VLLM) -> None:
    server.cards[0]["root"] = "/nowhere/at/all"
    with pytest.raises(ConfigError, match="-M tokenizer=PATH"):
        served(server)


def test_a_server_that_is_not_there_ends_with_2(
    server: VLLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.shutdown()
    server.server_close()
    results = tmp_path / "results"
    code = run(["eval", "-m", f"vllm:{server.url}", "-t", "preference", "--results", str(results)])
    assert code == 2
    assert "does not answer" in capsys.readouterr().err
    assert not list(results.glob("*.json"))


@pytest.mark.long
def test_the_same_record_whatever_the_requests(server: VLLM, tmp_path: Path) -> None:
    """Batches, threads and what was stored before do not change a byte."""
    found = []
    for number, extra in enumerate(([], ["-M", "concurrency=1", "--batch-tokens", "128"])):
        store, results = tmp_path / f"store{number}", tmp_path / f"results{number}"
        ask = ["eval", "-m", f"vllm:{server.url}", "-t", "preference", "--limit", "20", "--store", str(store)]
        assert run([*ask, *extra, "--results", str(results), "--quiet"]) == 0
        (path,) = results.rglob("*.json")
        record = json.loads(path.read_text())
        found.append((record["metrics"], record.get("items")))
        n_asked = len(server.asked)
        assert run([*ask, *extra, "--results", str(tmp_path / f"again{number}"), "--quiet"]) == 0
        probes = len(server.asked) - n_asked
        assert probes == 2, "only the two probes are asked again"
    assert found[0] == found[1]


def test_workers_are_refused(server: VLLM, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "-m", f"vllm:{server.url}", "-t", "preference", "--workers", "2"]) == 2
    assert "-M concurrency=N" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arch", "task", "expected"),
    [
        ("bert", "SequenceClassification", "bert is no decoder"),
        ("llama", "CausalLM", "expected a classifier"),
    ],
)
def test_what_vllm_would_score_wrong_is_refused_before_it_starts(
    make_checkpoint: Callable[..., Path], arch: str, task: str, expected: str
) -> None:
    tokenizer = "pair" if arch == "bert" else "bos"
    folder = make_checkpoint(arch, tokenizer=tokenizer, task=task)
    with pytest.raises(ConfigError, match=expected):
        load_model(f"vllm:{folder}", {}, Runtime(offline=True))


def test_without_vllm_one_line_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    for name in ("VLLM_NO_USAGE_STATS", "VLLM_LOGGING_LEVEL", "VLLM_WORKER_MULTIPROC_METHOD",
                 "VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_OMP_THREADS_BIND"):  # fmt: skip
        monkeypatch.setenv(name, "0")
    with pytest.raises(ConfigError, match=r"pip install 'rmbench\[vllm\]'"):
        load_model(f"vllm:{folder}", {}, Runtime(offline=True))
    with pytest.raises(ConfigError, match="option 'timeout' is for a server"):
        load_model(f"vllm:{folder}", {"timeout": "3"}, Runtime(offline=True))
