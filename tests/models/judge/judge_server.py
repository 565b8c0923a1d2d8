"""A chat-completions server on loopback that judges by a rule: the longer reply is better."""

import json
import math
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

Fault: TypeAlias = tuple[Any, ...] | str | None
"""(status, headers, text), "drop", "hang", ("say", message, finish reason); None: judge."""

Evaluate: TypeAlias = Callable[..., tuple[int, str, str]]
"""What the fixture `evaluate` is: a command line in, (exit code, stdout, stderr) out."""

USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


class JudgeServer(ThreadingHTTPServer):
    """Judges, writes down what it is asked, and fails where it is told to."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fault: Callable[[int, dict[str, Any]], Fault] = lambda n, body: None
        """Called with the number of the request, from 1, and its body."""
        self.gather = 1
        """Requests that must be here together before any is answered."""
        self.lock = threading.Lock()
        self.here = threading.Condition(self.lock)
        self.bodies: list[dict[str, Any]] = []
        self.answered: list[tuple[str, ...]] = []
        self.authorizations: list[str | None] = []
        self.in_work = self.most_in_work = 0
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def end(self) -> None:
        self.ending.set()
        self.shutdown()
        self.server_close()
        self.thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of some tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet per answer: a second would wait for the first's acknowledgement
    server: JudgeServer

    def do_POST(self) -> None:
        server = self.server
        assert self.path == "/v1/chat/completions"
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.bodies.append(body)
            server.authorizations.append(self.headers["Authorization"])
            n = len(server.bodies)
            server.in_work += 1
            server.most_in_work = max(server.most_in_work, server.in_work)
            server.here.notify_all()
            if not server.here.wait_for(lambda: server.most_in_work >= server.gather, 20):
                server.gather = 1  # the test fails, and need not take long
        try:
            self._respond(body, server.fault(n, body))
        finally:
            with server.lock:
                server.in_work -= 1

    def _respond(self, body: dict[str, Any], fault: Fault) -> None:
        if fault == "hang":
            self.server.ending.wait(20)
        if fault in ("hang", "drop"):
            self.close_connection = True
            return
        if isinstance(fault, tuple) and fault[0] == "say":
            self._send(200, {}, completion(fault[1], fault[2]))
        elif fault is not None:
            self._send(*fault)
        else:
            texts = judged_texts(body)
            with self.server.lock:
                self.server.answered.append(texts)
            self._send(200, {}, judge(body, texts))

    def _send(self, status: int, headers: dict[str, str], text: str) -> None:
        raw = text.encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(raw))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Be quiet."""


def judged_texts(body: dict[str, Any]) -> tuple[str, ...]:
    """Return what stands between the tags with the mark: the prompt, then one or two replies."""
    text = body["messages"][-1]["content"]
    found = re.fullmatch(
        r"<conversation (\w{12})>\n(.*)\n</conversation \1>\n\n"
        r"(?:<reply \1>\n(.*)\n</reply \1>|<reply_a \1>\n(.*)\n</reply_a \1>\n\n<reply_b \1>\n(.*)\n</reply_b \1>)"
        r"\n\n(?:Answer|Compare|Assess|Which).*",
        text,
        re.DOTALL,
    )
    assert found is not None, text
    return tuple(group for group in found.groups()[1:] if group is not None)


def judge(body: dict[str, Any], texts: tuple[str, ...]) -> str:
    """Return a chat completion in the form that was asked for."""
    if body.get("logprobs"):
        return with_logprobs(p_first(*texts[1:]))
    if len(texts) == 2:
        key, answer = "rating", rating_of(texts[1])
    else:
        a, b = map(len, texts[1:])
        key, answer = "verdict", "A" if a > b else "B" if b > a else "C"
    if "response_format" in body:
        schema = body["response_format"]["json_schema"]["schema"]
        assert schema["required"] == ["reasoning", key]
        return completion(json.dumps({"reasoning": "The one says [[B]].", key: answer}))
    return completion(f"The one says [[A]], the other [[B]].\n[[{answer}]]\n")


def rating_of(reply: str) -> int:
    return max(1, min(10, len(reply) // 10))


def p_first(first: str, second: str) -> float:
    return 1 / (1 + math.exp(-(len(first) - len(second)) / 20))


def completion(message: str | dict[str, Any], finish: str = "stop", **more: Any) -> str:
    message = {"role": "assistant", "content": message} if isinstance(message, str) else message
    return json.dumps({"choices": [{"message": message, "finish_reason": finish, **more}], "usage": USAGE})


def with_logprobs(p: float) -> str:
    """Return a first token whose letters come in several spellings and hold 0.8 of the probability."""
    shares = {"A": 0.6 * p, " A": 0.4 * p, "B": 0.9 * (1 - p), "\u0120B": 0.1 * (1 - p)}
    top = [{"token": t, "logprob": math.log(0.8 * share)} for t, share in shares.items()]
    top.append({"token": "The", "logprob": math.log(0.15)})
    return completion("A", "length", logprobs={"content": [{"token": "A", "top_logprobs": top}]})


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
