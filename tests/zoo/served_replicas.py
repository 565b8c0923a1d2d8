"""Servers of vLLM and SGLang on loopback, in the formats of their documentation; what they run is a replica.

Each computes what the real one would of the ids that it gets: hidden states of the body and a linear `score`
at the last token (vLLM's /classify, SGLang's /classify), or the model's head at every token (vLLM's /pooling).
"""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Head = Callable[[Any], Any]
"""Maps hidden states (T, D) to numbers (T, labels)."""


class Engine:
    """The body of a folder, and a head: `score.weight` unless another one is given."""

    def __init__(self, folder: Path, head: Head | None = None, arch: str = "llama") -> None:
        import torch
        from safetensors.torch import load_file
        from transformers import AutoConfig, AutoModel

        weights = load_file(folder / "model.safetensors")
        config = AutoConfig.from_pretrained(folder)
        self._body = AutoModel.from_config(config, dtype=torch.float32).eval()
        own = {k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")}
        self._body.load_state_dict(own)
        self._head = head or (lambda states: states @ weights["score.weight"].T)

    def every_token(self, ids: Sequence[int]) -> list[list[float]]:
        import torch

        with torch.no_grad():
            states = self._body(torch.tensor([list(ids)])).last_hidden_state[0]
            return [[float(x) for x in row] for row in self._head(states)]


class Serving(ThreadingHTTPServer):
    """A server of `kind`, `vllm` or `sglang`; `asked` has what it was sent."""

    def __init__(self, kind: str, engine: Engine, folder: Path) -> None:
        self.kind, self.engine, self.folder = kind, engine, folder
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.faults: list[tuple[int, Any]] = []
        self.info: dict[str, Any] = {
            "model_path": str(folder), "tokenizer_path": str(folder), "is_generation": False,
            "preferred_sampling_params": None, "weight_version": "default",
        }  # fmt: skip
        self.card: dict[str, Any] = {
            "id": "rm",
            "object": "model",
            "root": str(folder),
            "max_model_len": 4096,
        }
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def pages(self) -> dict[str, Any]:
        models = {"object": "list", "data": [self.card]}
        if self.kind == "vllm":
            return {"/v1/models": models, "/version": {"version": "0.18.0"}}
        return {
            "/v1/models": models, "/get_model_info": self.info, "/get_server_info": {"version": "0.5.6"},
        }  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    server: Serving

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        pages = self.server.pages()
        self.tell(200 if self.path in pages else 404, pages.get(self.path, {"detail": "Not Found"}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        if self.server.faults:
            self.tell(*self.server.faults.pop(0))
        else:
            answer = vllm_answer if self.server.kind == "vllm" else sglang_answer
            self.tell(200, answer(self.server.engine, self.path, body))

    def tell(self, code: int, value: Any) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def vllm_answer(engine: Engine, path: str, body: dict[str, Any]) -> Any:
    """As `ClassificationResponse` and `PoolingResponse`; a sigmoid unless `use_activation` is off."""
    import torch

    data = []
    for index, ids in enumerate(body["input"]):
        rows = torch.tensor(engine.every_token(ids))
        if body.get("use_activation", True):
            rows = rows.sigmoid() if rows.shape[1] == 1 else rows.softmax(dim=1)
        if path == "/pooling":
            assert body["task"] == "token_classify"
            data.append({"index": index, "object": "pooling", "data": rows.tolist()})
        else:
            assert path == "/classify"
            last = rows[-1].tolist()
            data.append({"index": index, "label": "LABEL_0", "probs": last, "num_classes": len(last)})
    return {"id": "pool-1", "object": "list", "created": 1, "model": "rm", "data": data, "usage": {}}


def sglang_answer(engine: Engine, path: str, body: dict[str, Any]) -> Any:
    """As `EmbeddingReqInput` is answered: the raw scores of the last token."""
    assert path == "/classify"
    return [
        {
            "embedding": engine.every_token(ids)[-1],
            "meta_info": {
                "id": f"r{k}",
                "finish_reason": {"type": "length"},
                "prompt_tokens": len(ids),
                "e2e_latency": 0.1,
            },
        }
        for k, ids in enumerate(body["input_ids"])
    ]


@contextmanager
def serving(kind: str, folder: Path, engine: Engine | None = None) -> Iterator[Serving]:
    server = Serving(kind, engine or Engine(folder), folder)
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
