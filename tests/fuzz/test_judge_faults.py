"""A judge's server that fails in every way: no answer is made up, and time and memory stay bounded."""

import gzip
import json
import math
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from rmbench.cli.main import run
from rmbench.core.address import public_address, without_secrets
from rmbench.errors import ConfigError, ScoringError
from rmbench.models.http import Dialect, Patience, Server
from rmbench.models.judge.judge import JudgeOfPairs
from rmbench.models.judge.load import load_judge
from rmbench.models.runtime import Runtime
from rmbench.models.sglang.load import SGLangServed, load_sglang
from rmbench.models.vllm.load import load_vllm
from rmbench.models.vllm.served import Connection, Served
from rmbench.types import Pair, Turn

TIMEOUT_S = 0.3
"""Of servers that drip or say nothing: the deadline is what ends the call."""
PATIENT_S = 30.0
"""Of servers that answer: something else ends the call, however busy the machine is."""
PAIR = Pair((Turn(role="user", content="q"),), "one reply", "another")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


Fault = Callable[[socket.socket], None]


class RawServer:
    """Reads requests, and answers each connection as `fault` says, byte by byte."""

    def __init__(self, fault: Fault) -> None:
        self.fault, self.requests = fault, list[bytes]()
        self.ending = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(30)
            try:
                self.requests.append(read_request(connection))
                self.fault(connection)
            except OSError:
                return

    def end(self) -> None:
        self.listener.close()


def read_request(connection: socket.socket) -> bytes:
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += connection.recv(65536) or b"\r\n\r\n"
    head, _, body = raw.partition(b"\r\n\r\n")
    length = next(
        (int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-l")), 0
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@contextmanager
def serving(fault: Fault) -> Iterator[RawServer]:
    server = RawServer(fault)
    try:
        yield server
    finally:
        server.end()


def answer(body: bytes, status: str = "200 OK", **headers: str) -> Fault:
    told = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = f"HTTP/1.1 {status}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in told.items()) + "\r\n"
    return lambda connection: connection.sendall(head.encode("latin-1") + body)


def drip(before: bytes, each: bytes) -> Fault:
    def go(connection: socket.socket) -> None:
        connection.sendall(before)
        for _ in range(400):
            connection.sendall(each)
            time.sleep(0.05)

    return go


def endless(before: bytes, each: bytes) -> Fault:
    """Send as fast as the client reads, up to 500 MB."""

    def go(connection: socket.socket) -> None:
        connection.sendall(before)
        for _ in range(500 * 2**20 // len(each)):
            connection.sendall(each)

    return go


def reset(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def reply(content: Any = '{"verdict": "A"}', **more: Any) -> bytes:
    message = {"role": "assistant", "content": content}
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop", **more}]}).encode()


def bomb(n_bytes: int) -> bytes:
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([pack.compress(bytes(2**20)) for _ in range(n_bytes // 2**20)] + [pack.flush()])


OPEN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
RIGHT = reply()
TWICE = b'{"choices": [{"message": {"content": "[[A]]"}}], "choices": [{"message": {"content": "[[B]]"}}]}'

FAULTS: dict[str, tuple[Fault, str]] = {
    "an answer of 500 MB": (endless(OPEN + b"\r\n", b" " * 65536), "larger than 16,777,216 bytes"),
    "an answer that says it has 500 MB": (
        endless(OPEN + b"Content-Length: 524288000\r\n\r\n", b" " * 65536), "larger than",
    ),
    "an answer in chunks of 500 MB": (
        endless(OPEN + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"), "larger than",
    ),
    "a gzip bomb": (answer(bomb(500 * 2**20), Content_Encoding="gzip"), "larger than"),
    "a gzip bomb in gzip": (answer(gzip.compress(bomb(2**28)), Content_Encoding="gzip, gzip"), "not asked for"),
    "gzip that is cut off": (answer(gzip.compress(RIGHT)[:-20], Content_Encoding="gzip"), "cut off"),
    "gzip that is none": (answer(RIGHT, Content_Encoding="gzip"), "cannot be decompressed"),
    "an endless drip of headers": (drip(OPEN, b"X-A: b\r\n"), "no answer within 0.3 s"),
    "an endless drip within a header": (drip(OPEN + b"X-A: ", b"b"), "no answer within 0.3 s"),
    "an endless drip of a body": (drip(OPEN + b"\r\n", b" "), "no answer within 0.3 s"),
    "an endless drip of chunks": (
        drip(OPEN + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"), "no answer within 0.3 s",
    ),
    "endless interim answers": (drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "no answer within 0.3 s"),
    "endless headers": (endless(OPEN, b"X-A: " + b"b" * 60000 + b"\r\n"), "Error"),
    "no answer": (lambda connection: time.sleep(3), "no answer within 0.3 s"),
    "an error that drips": (drip(b"HTTP/1.1 500 Oh\r\n\r\n", b"x"), "HTTP 500"),
    "an error of 500 MB": (endless(b"HTTP/1.1 500 Oh\r\n\r\n", b"x" * 65536), "HTTP 500"),
    "no JSON": (answer(b"<html>[[A]]</html>", Content_Type="text/html"), "no reply of"),
    "half JSON": (answer(RIGHT[:-3]), "no reply of"),
    "half of what it promised": (answer(RIGHT[:-1], Content_Length=str(len(RIGHT))), "Error"),
    "another kind of text": (answer(RIGHT.decode().encode("utf-16")), "no reply of"),
    "500": (answer(b"oh no", "500 Oh"), "HTTP 500"),
    "429 with a huge Retry-After": (answer(b"", "429 Slow", Retry_After="9" * 400), "HTTP 429"),
    "429 with a date": (answer(b"", "429 Slow", Retry_After="Fri, 31 Dec 9999 23:59:59 GMT"), "HTTP 429"),
    "429 with a negative Retry-After": (answer(b"", "429 Slow", Retry_After="-5"), "HTTP 429"),
    "429 with Retry-After of nan": (answer(b"", "429 Slow", Retry_After="nan"), "HTTP 429"),
    "a connection that is reset": (reset, "Error"),
    "a connection that is closed": (lambda connection: None, "Error"),
    "no choices": (answer(b'{"choices": []}'), "no reply of"),
    "choices of another kind": (answer(b'{"choices": {"0": 1}}'), "no reply of"),
    "null": (answer(b"null"), "no reply of"),
    "content of another kind": (answer(reply([["A"]])), "no reply of"),
    "a number for content": (answer(reply(1)), "no reply of"),
    "keys twice": (answer(TWICE), "no reply of"),
    "deep nesting": (answer(b"[" * 5_000_000), "no reply of"),
    "deep nesting in objects": (answer(b'{"choices":' * 500_000), "no reply of"),
    "a number of 5,000 digits": (answer(RIGHT[:-1] + b', "usage": ' + b"9" * 5000 + b"}"), "no reply of"),
}  # fmt: skip


def timeout_of(name: str) -> float:
    says = FAULTS[name][1]
    return TIMEOUT_S if says.startswith("no answer within") or "drips" in name else PATIENT_S


def judge_at(url: str, **options: Any) -> JudgeOfPairs:
    given = {
        "model": "m",
        "timeout": PATIENT_S,
        "retries": 1,
        "backoff": 0.001,
        "reasks": 0,
        "stop_after": 99,
    }
    judge = load_judge(url, **{**given, "runtime": Runtime(), **options})
    assert isinstance(judge, JudgeOfPairs)
    return judge


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_a_failed_call_and_never_a_verdict(name: str) -> None:
    fault, says = FAULTS[name]
    with serving(fault) as server:
        timeout = timeout_of(name)
        judge = judge_at(server.url, stop_after=1, timeout=timeout)
        start = time.monotonic()
        with pytest.raises(ScoringError, match="1 questions in a row") as caught:
            judge.prefer([PAIR])
        assert time.monotonic() - start < 2 * (timeout + 1.5) + 2
        assert says in str(caught.value)
        assert len(str(caught.value)) < 600
        assert judge.unanswered()["failed call"] == 1
        again = judge_at(server.url, retries=0, timeout=timeout)
        assert [math.isnan(v) for v in again.prefer([PAIR])] == [True]


UNREADABLE = {
    "null content": reply(None),
    "keys twice in the verdict": reply('{"verdict": "A", "verdict": "B"}'),
    "a verdict that is nested": reply('{"verdict": {"verdict": "A"}}'),
    "a verdict in deep nesting": reply('{"verdict":' * 2000),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_reply_without_a_verdict_is_unparsable(name: str) -> None:
    with serving(answer(UNREADABLE[name])) as server:
        judge = judge_at(server.url)
        assert [math.isnan(v) for v in judge.prefer([PAIR])] == [True]
        assert judge.unanswered()["unparsable"] == 1


def first_token(value: Any) -> bytes:
    top = [{"token": "A", "logprob": value}, {"token": "B", "logprob": -0.5}]
    return reply("A", logprobs={"content": [{"token": "A", "top_logprobs": top}]})


@pytest.mark.parametrize("value", [math.nan, 5.0, math.inf, None, "x", [1], True])
def test_what_is_no_log_probability_makes_no_preference(value: Any) -> None:
    with serving(answer(first_token(value))) as server:
        judge = judge_at(server.url, mode="logprob", retries=0)
        assert [math.isnan(v) for v in judge.prefer([PAIR])] == [True]
        assert judge.unanswered()["failed call"] == 1
    with serving(answer(first_token(-1.0))) as server:
        (found,) = judge_at(server.url, mode="logprob").prefer([PAIR])
    assert found == pytest.approx(math.exp(-1) / (math.exp(-1) + math.exp(-0.5)))


@pytest.mark.parametrize("n", [-5, 10**300, True, "9", 1.5, None])
def test_a_count_of_tokens_that_makes_no_sense_is_none(n: Any) -> None:
    body = json.loads(RIGHT) | {"usage": {"prompt_tokens": n, "completion_tokens": 7}}
    with serving(answer(json.dumps(body).encode())) as server:
        judge = judge_at(server.url, price_in=1.0)
        assert judge.prefer([PAIR]) == [1.0]
        used = judge.used()
        assert (used["prompt tokens"], used["completion tokens"]) == (0, 7)
        assert used["replies without a count of tokens"] == 1


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate", "identity"])
def test_right_answers_arrive_however_they_are_packed(encoding: str) -> None:
    packed = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding, bytes)(b"\xef\xbb\xbf" + RIGHT)
    slowly = answer(packed, **({"Content_Encoding": encoding} if encoding else {}))
    with serving(slowly) as server:
        assert judge_at(server.url).prefer([PAIR]) == [1.0]
        assert b"accept-encoding: gzip, deflate" in server.requests[0].lower()


ENTRIES = {
    "an index twice": [{"index": 0, "probs": [1.0]}, {"index": 0, "probs": [2.0]}],
    "an index left out": [{"index": 0, "probs": [1.0]}, {"index": 2, "probs": [2.0]}],
    "one text": [{"index": 0, "probs": [1.0]}],
    "text for numbers": [{"index": 0, "probs": ["1"]}, {"index": 1, "probs": ["2"]}],
    "yes for a number": [{"index": 0, "probs": [True]}, {"index": 1, "probs": [2.0]}],
    "another kind": {"0": [1.0], "1": [2.0]},
}


def served_by(server: RawServer) -> Served:
    patience = Patience(timeout_s=PATIENT_S, retries=0, backoff_s=0.001, stop_after=1, seed=0)
    client = Server(server.url.removesuffix("/v1"), "vLLM's server", None, patience, Dialect())
    return Served(client, "m", {}, 100, 1, [])


@pytest.mark.parametrize("name", ENTRIES)
def test_a_classifier_behind_a_server_mixes_up_no_texts(name: str) -> None:
    wrong = json.dumps({"data": ENTRIES[name]}).encode()
    with serving(answer(wrong)) as server, pytest.raises(ScoringError, match="no reply of /classify"):
        served_by(server).classify([[1], [2]], {})
    right = [{"index": 1, "probs": [2.0]}, {"index": 0, "probs": [1]}]
    with serving(answer(json.dumps({"data": right}).encode())) as server:
        assert served_by(server).classify([[1], [2]], {}) == [[1.0], [2.0]]


EMBEDDED = {
    "one text": [{"embedding": [1.0]}],
    "text for numbers": [{"embedding": ["1"]}, {"embedding": ["2"]}],
    "yes for a number": [{"embedding": [True]}, {"embedding": [2.0]}],
    "one number for a list": [{"embedding": 1.0}, {"embedding": 2.0}],
    "an object": {"embedding": [1.0]},
    "other tokens": [{"embedding": [1.0], "meta_info": {"prompt_tokens": 7}}, {"embedding": [2.0]}],
}


@pytest.mark.parametrize("name", EMBEDDED)
def test_sglang_too_mixes_up_no_texts(name: str) -> None:
    wrong = json.dumps(EMBEDDED[name]).encode()
    with serving(answer(wrong)) as server, pytest.raises(ScoringError, match="no reply of /classify"):
        sglang_at(server).classify([[1], [2]], {})
    right = [{"embedding": [2], "meta_info": {"prompt_tokens": 1}}, {"embedding": [1.5]}]
    with serving(answer(json.dumps(right).encode())) as server:
        assert sglang_at(server).classify([[1], [2]], {}) == [[2.0], [1.5]]


def sglang_at(server: RawServer) -> SGLangServed:
    patience = Patience(timeout_s=PATIENT_S, retries=0, backoff_s=0.001, stop_after=1, seed=0)
    client = Server(server.url.removesuffix("/v1"), "SGLang's server", None, patience, Dialect())
    return SGLangServed(Connection(client, "m", *cast(Any, (None, None)), 100, {}, [], 1))


@pytest.mark.parametrize("load", [load_vllm, load_sglang])
@pytest.mark.parametrize("name", ["an endless drip of a body", "a gzip bomb"])
def test_a_server_that_is_asked_what_it_serves_has_the_same_bounds(
    name: str, load: Callable[..., Any]
) -> None:
    with serving(FAULTS[name][0]) as server, pytest.raises(ConfigError) as caught:
        load(server.url, runtime=Runtime(), timeout=timeout_of(name))
    assert FAULTS[name][1] in str(caught.value)


def test_a_slow_answer_within_the_deadline_is_read() -> None:
    def slow(connection: socket.socket) -> None:
        head = OPEN + f"Content-Length: {len(RIGHT)}\r\n\r\n".encode()
        for part in (head[:10], head[10:], RIGHT[:5], RIGHT[5:]):
            connection.sendall(part)
            time.sleep(0.05)

    with serving(slow) as server:
        assert judge_at(server.url).prefer([PAIR]) == [1.0]


def test_the_deadline_holds_behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(drip(OPEN, b"X-A: b\r\n")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        monkeypatch.setenv("NO_PROXY", "")
        start = time.monotonic()
        judge = judge_at("http://judge.invalid/v1", retries=0, timeout=TIMEOUT_S)
        assert [math.isnan(v) for v in judge.prefer([PAIR])] == [True]
        assert time.monotonic() - start < 5
        assert proxy.requests[0].startswith(b"POST http://judge.invalid/v1/")


def test_a_redirect_is_not_followed_and_no_key_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-secret-0123456789")
    with serving(answer(RIGHT)) as other:
        place = other.url.replace("/v1", "/v1/hidden-0123456789?key=sk-1")
        with serving(answer(b"", "307 Elsewhere", Location=place)) as server:
            with pytest.raises(ScoringError, match="HTTP 307: it redirects to http://127") as caught:
                judge_at(server.url, key_env="JUDGE_KEY").prefer([PAIR])
            assert len(server.requests) == 1
        assert other.requests == []
    assert "hidden" not in str(caught.value)
    assert "sk-" not in str(caught.value)


def test_a_server_cannot_fill_the_memory_with_cookies() -> None:
    with serving(answer(RIGHT, Set_Cookie="a=b; Path=/")) as server:
        judge = judge_at(server.url)
        assert judge.prefer([PAIR, PAIR]) == [1.0, 1.0]
        assert not any(b"cookie:" in request.lower() for request in server.requests)


def test_a_version_of_the_client_without_a_deadline_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Changed:
        def __init__(self, **options: Any) -> None:
            """Have no transport where this version has it."""

    monkeypatch.setattr("rmbench.models.wire.httpx2.Client", Changed)
    with pytest.raises(ConfigError, match="cannot be given a deadline"):
        judge_at("http://127.0.0.1:1/v1")


MEASURED = """
import resource, sys
from rmbench.models.judge.load import load_judge
from rmbench.models.runtime import Runtime
from rmbench.types import Pair, Turn
pair = Pair((Turn(role="user", content="q"),), "one reply", "another")
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
options = dict(model="m", timeout=60.0, retries=0, reasks=0, runtime=Runtime())
before = peak()
(found,) = load_judge(sys.argv[1], **options).prefer([pair])
print(found, peak() - before)
"""
LARGE = (
    "an answer of 500 MB",
    "an answer in chunks of 500 MB",
    "a gzip bomb",
    "an error of 500 MB",
    "endless headers",
)


@pytest.mark.parametrize("name", LARGE)
def test_a_large_answer_takes_little_memory(name: str) -> None:
    with serving(FAULTS[name][0]) as server:
        found, grown = measured(server.url)
    assert found == "nan"
    assert grown < 100, f"{grown:.0f} MB"


@pytest.mark.slow
def test_a_large_answer_of_small_values_takes_bounded_memory() -> None:
    body = b"[" + b"[]," * ((2**24 - 10) // 3) + b"[]]"
    with serving(answer(body)) as server:
        found, grown = measured(server.url)
    assert found == "nan"
    assert grown < 600, f"{grown:.0f} MB"


def measured(url: str) -> tuple[str, float]:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURED), url],
        env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.PIPE, text=True, timeout=120, check=True,
    )  # fmt: skip
    found, grown = done.stdout.split()
    return found, float(grown)


SECRETS = ("hunter2-in-the-path", "Tok3n")


def test_a_secret_in_the_path_stays_out_of_what_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"id": str(n), "prompt": f"q{n}", "responses": ["a", "b" * n], "gold": [1, 0]} for n in range(1, 4)
    ]
    data = tmp_path / "items.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def go(*more: str) -> int:
        places = ["--results", str(tmp_path / "results"), "--store", str(tmp_path / "store")]
        arguments = ["eval", "-t", "preference", "--data", str(data), *places, *more]
        argv[1:] = arguments
        return run(arguments)

    argv = sys.argv
    kept = argv[:]
    told = []
    try:
        with serving(answer(RIGHT)) as server:
            url = server.url + "".join(f"/{secret}" for secret in SECRETS)
            assert go("-m", f"judge:{url}", "-M", "model=m") == 0
            assert go(
                "-m",
                "length",
                "--gold",
                f"judge:{url}",
                "-G",
                "model=m",
                "-G",
                "mode=rating",
                "-T",
                "invalid=drop",
            ) in (0, 1)
            assert go("-m", f"judge:{url}", "-M", "modle=m") == 2
            assert go("-m", f"judge:{url}", "--gold", f"judge:{url}") == 2
            assert go("-m", f"judge:{url}", "-M", "model=m", "--workers", "2") == 2
            assert server.requests[0].startswith(f"POST /v1/{SECRETS[0]}/{SECRETS[1]}/chat".encode())
        with serving(answer(f"no route /v1/{SECRETS[0]}/{SECRETS[1]}".encode(), "404 No")) as server:
            url = server.url + "".join(f"/{secret}" for secret in SECRETS)
            assert go("-m", f"judge:{url}", "-M", "model=m", "-M", "temperature=0.5") == 1
            assert go("-m", f"vllm:{url}") == 2
        for wrong in ("http://u:hunter2-in-the-path@127.0.0.1:1/v1", "http://127.0.0.1:1/v1?key=hunter2-in-the-path",
                      "http://127.0.0.1:hunter2-in-the-path/v1", "http://127.0.0.1:1/v1#hunter2-in-the-path"):  # fmt: skip
            for scheme in ("judge", "vllm"):
                assert go("-m", f"{scheme}:{wrong}", "-M", "model=m") == 2
    finally:
        argv[:] = kept
    shown = capsys.readouterr()
    told = [shown.out, shown.err]
    assert "[key]" in shown.err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {".json", ".sqlite"} <= {path.suffix for path in files}
    for path in files:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        told.append(raw.decode("latin-1"))
    for secret in SECRETS:
        assert not [text for text in told if secret in text]
    (record,) = (tmp_path / "results").glob("judge*/*/*.json")
    assert json.loads(record.read_text())["identity"]["model"]["url"].startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1",
        "https://api.example.org/v1",
        "https://example.org/openai/v1/",
        "http://HOST:1/v1",
    ],
)
def test_usual_addresses_keep_their_identity(url: str) -> None:
    assert public_address(url) == url
    assert load_judge(url, model="m", runtime=Runtime()).fingerprint()["url"] == url.rstrip("/")


def test_two_secrets_are_two_addresses_and_hiding_is_stable() -> None:
    one, two = (public_address(f"https://example.org:8443/v1/{secret}") for secret in ("aaaa1", "aaaa2"))
    assert one != two
    assert one.startswith("https://example.org:8443/v1/sha256-")
    assert public_address(one) == one
    assert without_secrets(f"--model=judge:{one},vllm:https://a:b@c/d?e=f#g") == without_secrets(
        without_secrets("--model=judge:https://example.org:8443/v1/aaaa1,vllm:https://a:b@c/d?e=f#g")
    )
    assert without_secrets("see https://example.org/Docs/Page") == "see https://example.org/Docs/Page"
