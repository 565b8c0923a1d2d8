"""`judge:URL`: an LLM behind an OpenAI-compatible chat-completions endpoint, as a judge.

Modes `verdict` and `logprob` make a pairwise model, which the engine asks in both orders; mode `rating` makes
a reward model. A question without an answer is NaN, counted by reason, and never a tie.

Prompts are templates in YAML, into which texts are put as they are.
"""

import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rmbench.core.address import public_address
from rmbench.core.files import conversation_key, digest, pair_key
from rmbench.core.schema import parse
from rmbench.core.yaml import read_yaml
from rmbench.errors import ConfigError, DataError, UnknownNameError
from rmbench.models.http import Patience, checked_url, key_from
from rmbench.models.judge.answer import (
    REASONS,
    UNPARSABLE,
    Endpoint,
    NoAnswerError,
    Reply,
    first_letter,
    rating,
    verdict,
)
from rmbench.models.messages import text_alone
from rmbench.models.runtime import Runtime
from rmbench.types import Conversation, Pair, Turn

Form: TypeAlias = Literal["json", "line", "letter"]
"""How to answer: a JSON object, a last line such as `[[A]]`, one letter."""

Messages: TypeAlias = list[dict[str, str]]

_FOLDER = Path(str(files("rmbench"))) / "_data" / "judges"
_FIELD = re.compile(r"\{([a-z_]+)\}")
_TEXTS = {"pairwise": ("prompt", "first", "second"), "rating": ("prompt", "response")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A judge's prompt: texts with `{prompt}`, `{form}`, and `{first}` and `{second}`, or `{response}`."""

    system: str = ""
    """The system message; none is sent if it is empty."""
    user: str
    """The user message. `{mark}` is a hash of the texts, so that no text can hold the tag that ends it."""
    json: str | None = None
    """The text of `{form}` that asks for a JSON object."""
    line: str | None = None
    """The text of `{form}` that asks for a last line such as `[[A]]`."""
    letter: str | None = None
    """The text of `{form}` that asks for one letter; not in a prompt that asks for a rating."""

    @property
    def forms(self) -> dict[str, str]:
        """The text of `{form}`, by form; only those that the file has."""
        said = {"json": self.json, "line": self.line, "letter": self.letter}
        return {form: text for form, text in said.items() if text is not None}

    @property
    def sha256(self) -> str:
        """Return the hash of all that a judge may read; comments and layout of the file do not matter."""
        return digest([self.system, self.user, dict(self.forms)])

    def of_pair(self, pair: Pair, form: Form) -> Messages:
        """Return the messages that ask which of two replies is better."""
        mark = pair_key(pair.prompt, pair.first, pair.second)[:12]
        texts = {"prompt": _told(pair.prompt, mark), "first": pair.first, "second": pair.second}
        return self._filled(texts, mark, form)

    def of_reply(self, turns: Conversation, form: Form) -> Messages:
        """Return the messages that ask how good the last turn is."""
        text_alone(turns[-1:], "a judge's prompt")
        mark = conversation_key(turns)[:12]
        return self._filled({"prompt": _told(turns[:-1], mark), "response": turns[-1]["content"]}, mark, form)

    def _filled(self, texts: Mapping[str, str], mark: str, form: Form) -> Messages:
        values = {**texts, "mark": mark, "form": self.forms[form]}
        found = []
        for role, template in (("system", self.system), ("user", self.user)):
            # One pass with a function: what is put in is never read as a template, nor as an escape.
            content = _FIELD.sub(lambda match: values[match[1]], template)
            if content:
                found.append({"role": role, "content": content})
        return found


def read_template(path: Path | None, kind: Literal["pairwise", "rating"]) -> Template:
    """Return the template in a file; without one that of the package.

    Raises:
        ConfigError: If the file cannot be read, or a key or a placeholder is missing or is no text.
        UnknownNameError: If a key or a placeholder is unknown.
    """
    path = path or _FOLDER / f"{kind}.yaml"
    without = {"letter": None} if kind == "rating" else {}
    found = parse(Template, read_yaml(path), str(path), **without)
    known = (*_TEXTS[kind], "mark", "form")
    used = set(_FIELD.findall(found.system + found.user))
    for name in sorted(used - set(known)):
        raise UnknownNameError("placeholder", name, known, str(path))
    for name in (*_TEXTS[kind], "form"):
        if name not in used:
            raise DataError(f"the prompt lacks the placeholder {{{name}}}", path=path, key="user")
    return replace(found, system=found.system.strip("\n"), user=found.user.strip("\n"))


def _told(prompt: Sequence[Turn], mark: str) -> str:
    """Return a prompt as one text: a question as it is, a longer conversation turn by turn."""
    text_alone(prompt, "a judge's prompt")
    if len(prompt) == 1 and prompt[0]["role"] == "user":
        return prompt[0]["content"]
    return "\n".join(f"<{t['role']} {mark}>\n{t['content']}\n</{t['role']} {mark}>" for t in prompt)


_SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "verdict": {"type": "string", "enum": ["A", "B", "C"]},
    "rating": {"type": "integer", "enum": list(range(1, 11))},  # not every server knows minimum and maximum
}
_VERSION = "1"
"""Version of how requests are made and answers are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """All parts of a request that can change an answer, and the prices."""

    url: str
    model: str
    mode: str
    template: Template
    temperature: float | None
    max_tokens: int
    structured: str
    top_logprobs: int
    seed: int
    reasks: int
    concurrency: int
    price_in: float | None
    price_out: float | None
    warning: str
    """A remark for the user; empty for no remark."""


class _Judge:
    """Base of the judges of pairs and of replies."""

    def __init__(self, asking: Asking, endpoint: Endpoint) -> None:
        self._asking, self._endpoint = asking, endpoint
        self._lock = threading.Lock()
        self._unanswered: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self.display_name = f"judge:{asking.model}"

    def fingerprint(self) -> Mapping[str, str]:
        """Return the server, the model and the request; no key, and no option of speed or price."""
        a = self._asking
        told = {
            "url": public_address(a.url), "model": a.model, "mode": a.mode,
            "prompt_sha256": a.template.sha256, "temperature": a.temperature, "max_tokens": a.max_tokens,
            "structured": a.structured,
            "top_logprobs": a.top_logprobs if a.mode == "logprob" else None,
            "seed": a.seed, "reasks": a.reasks,
        }  # fmt: skip
        return {"kind": "judge", "version": _VERSION, **{k: str(v) for k, v in told.items() if v is not None}}

    def concurrency(self) -> int:
        """Return how many requests may wait for the server together."""
        return self._asking.concurrency

    def batch_tokens(self) -> int:
        """Return 1: each question is a batch of its own, so that its answer is stored when it comes."""
        return 1

    def notes(self) -> list[str]:
        """Return remarks for the user."""
        found = [self._asking.warning] if self._asking.warning else []
        if self._asking.mode == "rating":
            found.append("ratings are whole numbers from 1 to 10: expect many ties, which count half")
        return found

    def used(self) -> Mapping[str, float]:
        """Return requests, retries and tokens, and the cost of the tokens if their price is known."""
        a, counts = self._asking, self._endpoint.counts()
        if a.price_in is None and a.price_out is None:
            return counts
        price = counts["prompt tokens"] * (a.price_in or 0) + counts["completion tokens"] * (a.price_out or 0)
        return {**counts, "cost": price / 1e6}

    def unanswered(self) -> Mapping[str, int]:
        """Return how many questions had no answer, by reason."""
        with self._lock:
            return dict(self._unanswered)

    def _answer(
        self, messages: Callable[[Form], Messages], question: str, read: Callable[[Reply], float]
    ) -> float:
        """Return the answer to a question, NaN if there is no answer."""
        for n_before in range(self._asking.reasks + 1):
            body = partial(self._body, messages, n_before)
            try:
                value = read(self._endpoint.chat(body, question))
            except NoAnswerError as error:
                if error.reason == UNPARSABLE and n_before < self._asking.reasks:
                    continue  # with another seed
                with self._lock:
                    self._unanswered[error.reason] += 1
                self._endpoint.settled(f"{error.reason}: {error}")
            else:
                self._endpoint.settled(None)
                return value
            break
        return math.nan

    def _body(
        self, messages: Callable[[Form], Messages], n_before: int, knows_format: bool
    ) -> dict[str, Any]:
        a = self._asking
        body: dict[str, Any] = {"model": a.model, "seed": a.seed + n_before}
        if a.temperature is not None:
            body["temperature"] = a.temperature
        if a.mode == "logprob":
            logprobs = {"max_tokens": 1, "logprobs": True, "top_logprobs": a.top_logprobs}
            return body | logprobs | {"messages": messages("letter")}
        body["max_tokens"] = a.max_tokens
        if a.structured == "no" or not knows_format:
            return body | {"messages": messages("line")}
        return body | {"messages": messages("json"), "response_format": _response_format(a.mode)}


class JudgeOfPairs(_Judge):
    """A judge that says which of two replies is better."""

    def prefer(self, batch: Sequence[Pair]) -> list[float]:
        """Return P(first is better) of each pair, in [0, 1]; NaN where there is no answer.

        Raises:
            ScoringError: If the server no longer answers.
        """
        of_pair = self._asking.template.of_pair
        read = first_letter if self._asking.mode == "logprob" else verdict
        return [self._answer(partial(of_pair, p), pair_key(p.prompt, p.first, p.second), read) for p in batch]


class JudgeOfReplies(_Judge):
    """A judge that rates one reply."""

    def score(self, batch: Sequence[Conversation]) -> list[float]:
        """Return the rating of each last turn, 1 to 10; NaN if there is no answer.

        Raises:
            ScoringError: If the server no longer answers.
        """
        of_reply = self._asking.template.of_reply
        return [self._answer(partial(of_reply, turns), conversation_key(turns), rating) for turns in batch]


def load_judge(
    url: str,
    *,
    model: str,
    mode: Literal["verdict", "logprob", "rating"] = "verdict",
    key_env: str | None = None,
    prompt: Path | None = None,
    temperature: float | None = 0.0,
    max_tokens: int = 1024,
    structured: Literal["auto", "yes", "no"] = "auto",
    top_logprobs: int = 20,
    concurrency: int = 8,
    timeout: float = 120.0,
    retries: int = 5,
    backoff: float = 1.0,
    reasks: int = 1,
    stop_after: int = 8,
    price_in: float | None = None,
    price_out: float | None = None,
    runtime: Runtime,
) -> JudgeOfPairs | JudgeOfReplies:
    """An LLM judge behind an OpenAI-compatible chat-completions endpoint, such as http://127.0.0.1:8000/v1.

    Args:
        url: Up to and without `/chat/completions`.
        model: What the server calls the model.
        mode: verdict: A, B or a tie, in words; logprob: P(A) from the first token; rating: 1 to 10 per reply.
        key_env: Name of the environment variable that holds the server's key; without it no key is sent.
        prompt: A prompt of your own; rmbench/_data/judges has the ones of the package, to copy.
        temperature: Of the sampling; none leaves it to the server.
        max_tokens: Of an answer; mode logprob asks for one.
        structured: Ask for JSON by a schema; auto stops doing so when the server says that it cannot.
        top_logprobs: How many first tokens to ask for in mode logprob.
        concurrency: Requests that wait for the server together.
        timeout: Seconds of a whole request, to the last byte of its answer.
        retries: Further requests after a 429, a 5xx, a time-out or a dropped connection.
        backoff: Seconds before the first of them, doubled each time; Retry-After is honoured.
        reasks: How often to ask again, with another seed, where no verdict can be read.
        stop_after: Questions in a row without an answer, after which the run stops.
        price_in: Of a million tokens of prompts; with it the cost is told.
        price_out: Of a million tokens of answers.
        runtime: Its seed is sent to the server.

    Raises:
        ConfigError: If an option is out of its range, or the key is not there.
    """
    for name, value, least in (("max_tokens", max_tokens, 1), ("concurrency", concurrency, 1),
                               ("retries", retries, 0), ("backoff", backoff, 0), ("reasks", reasks, 0),
                               ("stop_after", stop_after, 1), ("top_logprobs", top_logprobs, 2),
                               ("timeout", timeout, 1e-3), ("temperature", temperature or 0, 0),
                               ("price_in", price_in or 0, 0), ("price_out", price_out or 0, 0)):  # fmt: skip
        if not least <= value < math.inf:
            raise ConfigError(f"judge: option {name!r} is {value:g}; expected at least {least:g}")
    url, warning = checked_url(url, key_env, scheme="judge", path="/v1")
    template = read_template(prompt, "rating" if mode == "rating" else "pairwise")
    needed = {"logprob": "letter"}.get(mode, "json" if structured == "yes" else "line")
    if needed not in template.forms:
        raise ConfigError(f"{prompt}: the key {needed!r} is missing, which says how to answer in this mode")
    if structured == "auto" and "json" not in template.forms:
        structured = "no"
    asking = Asking(
        url=url, model=model, mode=mode, template=template, temperature=temperature, max_tokens=max_tokens,
        structured=structured, top_logprobs=top_logprobs, seed=runtime.seed, reasks=reasks,
        concurrency=concurrency, price_in=price_in, price_out=price_out, warning=warning,
    )  # fmt: skip
    patience = Patience(
        timeout_s=timeout, retries=retries, backoff_s=backoff, stop_after=stop_after, seed=runtime.seed
    )
    droppable = frozenset({"seed"} | ({"response_format"} if structured == "auto" else set()))
    endpoint = Endpoint(url, key_from(key_env, scheme="judge"), patience, droppable)
    return (JudgeOfReplies if mode == "rating" else JudgeOfPairs)(asking, endpoint)


def _response_format(mode: str) -> dict[str, Any]:
    properties = {"reasoning": {"type": "string"}, mode: dict(_SCHEMAS[mode])}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": mode, "strict": True, "schema": schema}}
