"""Making a judge from the options of `-M`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rmbench.core.yaml import read_yaml
from rmbench.errors import ConfigError
from rmbench.models.http import Patience, checked_url, key_from
from rmbench.models.judge.endpoint import Endpoint
from rmbench.models.judge.judge import JudgeOfLists, JudgeOfPairs, JudgeOfReplies, Terms
from rmbench.models.judge.pack import FOLDER, Pack, pack_named, read_pack
from rmbench.models.judge.question import Asking
from rmbench.models.judge.template import read_template
from rmbench.models.runtime import Runtime

VOTING_TEMPERATURE = 0.7
"""Of the votes of a judge whose pack does not sample: at 0 they would all be the same."""


def load_judge(
    url: str,
    *,
    model: str,
    mode: Literal["verdict", "logprob", "rating"] | None = None,
    pack: str | None = None,
    prompt: Path | None = None,
    votes: int = 1,
    key_env: str | None = None,
    temperature: float | Literal["default"] | None = "default",
    top_p: float | None = None,
    max_tokens: int | None = None,
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
) -> JudgeOfPairs | JudgeOfLists:
    """An LLM judge behind an OpenAI-compatible chat-completions endpoint, such as http://127.0.0.1:8000/v1.

    Args:
        url: Up to and without `/chat/completions`.
        model: What the server calls the model.
        mode: verdict (without a pack the default): A, B or a tie, in words; logprob: P(A) from the first
            token; rating: 1 to 10 per reply.
        pack: How a family of judges is asked and read: a name of `rmbench models judges`.
        prompt: A prompt or a pack of your own; rmbench/_data/judges has the ones of the package, to copy.
        votes: How often each question is asked, with other seeds; the mean counts.
        key_env: Name of the environment variable that holds the server's key; without it no key is sent.
        temperature: Of the sampling; none leaves it to the server. default: what the pack says, else 0, and
            0.7 for votes.
        top_p: Of the sampling; none: what the pack says, else the server's.
        max_tokens: Of an answer; none: what the pack says, else 1024. First tokens are asked for with 1.
        structured: Ask for JSON by a schema; auto stops doing so when the server says that it cannot.
        top_logprobs: How many first tokens to ask for, where their probabilities are read.
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
    warm = temperature if isinstance(temperature, int | float) else 0
    for name, value, least in (("max_tokens", _or_1(max_tokens), 1), ("concurrency", concurrency, 1),
                               ("retries", retries, 0), ("backoff", backoff, 0), ("reasks", reasks, 0),
                               ("stop_after", stop_after, 1), ("top_logprobs", top_logprobs, 2),
                               ("timeout", timeout, 1e-3), ("temperature", warm, 0),
                               ("top_p", top_p or 1, 0), ("votes", votes, 1),
                               ("price_in", price_in or 0, 0), ("price_out", price_out or 0, 0)):  # fmt: skip
        if not least <= value < math.inf:
            raise ConfigError(f"judge: option {name!r} is {value:g}; expected at least {least:g}")
    address, warning = checked_url(url, key_env, scheme="judge", path="/v1")
    chosen = _chosen(mode, pack, prompt, structured)
    plain, sampling = chosen.pack, chosen.pack.sampling
    if plain.answer.tokens and votes > 1:
        raise ConfigError(
            "judge: the probabilities of the first token are read, which are the same in each vote; leave"
            " -M votes out"
        )
    asking = Asking(
        model=model, pack=plain, formal=chosen.formal, votes=votes, seed=runtime.seed,
        temperature=_temperature(temperature, sampling.temperature, votes),
        top_p=sampling.top_p if top_p is None else top_p,
        max_tokens=max_tokens or sampling.max_tokens, top_logprobs=top_logprobs,
    )  # fmt: skip
    terms = Terms(
        url=address, prompt=chosen.identity, mode=chosen.mode, structured=chosen.structured, reasks=reasks,
        concurrency=concurrency, price_in=price_in, price_out=price_out,
        notes=(*filter(None, (warning,)), *chosen.notes),
    )  # fmt: skip
    patience = Patience(
        timeout_s=timeout, retries=retries, backoff_s=backoff, stop_after=stop_after, seed=runtime.seed
    )
    droppable = frozenset({"seed"} | ({"response_format"} if chosen.structured == "auto" else set()))
    endpoint = Endpoint(address, key_from(key_env, scheme="judge"), patience, droppable)
    kinds = {"pair": JudgeOfPairs, "response": JudgeOfReplies, "list": JudgeOfLists}
    return kinds[plain.asks](asking, terms, endpoint)  # type: ignore[return-value]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    pack: Pack
    formal: Pack | None
    mode: str
    structured: str
    identity: Mapping[str, str]
    notes: tuple[str, ...] = ()


def _chosen(mode: str | None, name: str | None, path: Path | None, structured: str) -> _Chosen:
    """Return the pack that the options mean."""
    if name is not None and path is not None:
        raise ConfigError(f"judge: both pack={name} and prompt={path} say how to ask; expected one of them")
    if name is None and (path is None or "messages" not in read_yaml(path)):
        return _of_template(mode or "verdict", path, structured)
    pack = pack_named(name) if name is not None else read_pack(path)  # type: ignore[arg-type]
    if not pack.messages:
        raise ConfigError(
            f"judge: the pack {pack.name!r} reads answers, but its prompt may not be repeated here"
            f" ({pack.source}); copy {FOLDER / pack.name}.yaml, put 'messages' in, and pass it with"
            " -M prompt=FILE"
        )
    if mode is not None:
        raise ConfigError(f"judge: the pack {pack.name!r} says what is asked; leave -M mode={mode} out")
    if structured == "yes" and not pack.schema:
        raise ConfigError(f"judge: the pack {pack.name!r} has no JSON schema; leave -M structured=yes out")
    use_schema = bool(pack.schema) and structured != "no"
    return _Chosen(
        pack=replace(pack, schema={}),
        formal=pack if use_schema else None,
        mode=pack.asks,
        structured=structured if use_schema else "no",
        identity={"pack": pack.identity},
        notes=(f"judge pack {pack.identity}: {pack.about}",),
    )


def _of_template(mode: str, path: Path | None, structured: str) -> _Chosen:
    kind: Literal["pairwise", "rating"] = "rating" if mode == "rating" else "pairwise"
    template = read_template(path, kind)
    needed = {"logprob": "letter"}.get(mode, "json" if structured == "yes" else "line")
    if needed not in template.forms:
        raise ConfigError(f"{path}: the key {needed!r} is missing, which says how to answer in this mode")
    if structured == "auto" and "json" not in template.forms:
        structured = "no"
    formal = None
    if mode != "logprob" and structured != "no":
        formal = template.pack(kind, "json")
    note = "ratings are whole numbers from 1 to 10: expect many ties, which count half"
    return _Chosen(
        pack=template.pack(
            kind, "letter" if mode == "logprob" else "line" if "line" in template.forms else "json"
        ),
        formal=formal,
        mode=mode,
        structured=structured,
        identity={"prompt_sha256": template.sha256},
        notes=(note,) if mode == "rating" else (),
    )


def _temperature(given: float | str | None, usual: float | None, votes: int) -> float | None:
    """Return the temperature of the requests; None leaves it to the server."""
    if given == "default":
        return VOTING_TEMPERATURE if votes > 1 and usual == 0 else usual
    if given == 0 and votes > 1:
        raise ConfigError(
            f"judge: votes={votes} of temperature 0 are all the same; expected a temperature above 0, or"
            f" none given for {VOTING_TEMPERATURE}"
        )
    return None if given is None else float(given)


def _or_1(n: int | None) -> int:
    return 1 if n is None else n
