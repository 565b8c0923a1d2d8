"""Items that a model's text format cannot write, and replies of which it drops a part.

A chat template may leave out part of a reply: `<think>...</think>`, as those of Qwen3 and DeepSeek do. Two
replies of one prompt that differ in that part alone then get the same reward. Other templates refuse some
conversations, such as two user turns in a row.

A tokenizer reads the text of a control token as that token, wherever it stands: a reply that quotes
`<|im_end|>` ends its own turn.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations

from rmbench.core.files import digest
from rmbench.errors import ConfigError
from rmbench.evaluation.task import PreparedTask
from rmbench.types import AnyModel, ControlledModel, Conversation, Item, WritingModel

CHANGED, MADE_EQUAL = "replies", "pairs_made_equal"
"""Keys of the count `changed_by_template`."""


def without_unwritable(task: PreparedTask, model: AnyModel) -> PreparedTask:
    """Return the task without items that a model's text format cannot write; they are counted by reason.

    Raises:
        ConfigError: If no item is left.
    """
    if not isinstance(model, WritingModel):
        return task
    kept, gone, reasons = list[int](), list[str](), Counter[str]()
    for k, item in enumerate(task.items):
        why = model.refusal([item.conversation(n) for n in range(len(item.responses))])
        if why:
            gone.append(item.id)
            reasons[why] += 1
        else:
            kept.append(k)
    if not gone:
        return task
    if not kept:
        told = ", ".join(f"{n:,} {why}" for why, n in reasons.items())
        raise ConfigError(f"task {task.spec.name!r}: the model can read no item: {told}")
    return replace(
        task,
        items=task.items.take(kept),
        n_available=task.n_available - len(gone),
        dropped=dict(sorted((Counter(task.dropped) + reasons).items())),
        # Other data, as far as a number is concerned: another hash, hence another record.
        data_hash=digest(["without", task.data_hash, *gone]),
    )


def changed_by_template(items: Iterable[Item], model: AnyModel) -> dict[str, int]:
    """Return how many replies a chat template does not write as they are, and how many pairs it makes equal.

    White space around a reply does not count. A pair is two different replies of one prompt.

    Returns:
        `replies` and `pairs_made_equal`; empty where no reply is changed.
    """
    if not isinstance(model, WritingModel):
        return {}
    n_changed = n_equal = 0
    for item in items:
        asked = [item.conversation(k) for k in range(len(item.responses))]
        texts = [model.written(turns) for turns in asked]
        found = [k for k, own in enumerate(texts) if any(_lacks(asked[k], text) for text in own)]
        n_changed += len(found)
        n_equal += sum(
            texts[i] == texts[k] and asked[i][-1]["content"].strip() != asked[k][-1]["content"].strip()
            for i, k in combinations(range(len(asked)), 2)
            if i in found or k in found
        )
    return {CHANGED: n_changed, MADE_EQUAL: n_equal} if n_changed else {}


def with_special_tokens(items: Iterable[Item], model: AnyModel) -> dict[str, int]:
    """Return how many prompts and replies have the text of a control token of the model, by that text."""
    tokens = model.special_tokens() if isinstance(model, ControlledModel) else ()
    if not tokens:
        return {}
    longest_first = sorted(tokens, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    found = Counter[str]()
    for item in items:
        prompt = "\n".join(turn["content"] for turn in item.prompt)
        for text in (prompt, *(response.text for response in item.responses)):
            found.update(set(pattern.findall(text)))
    return dict(found.most_common())


def _lacks(turns: Conversation, text: str) -> bool:
    """Say whether a written conversation lacks its reply; equal words in its prompt do not stand for it."""
    reply = turns[-1]["content"].strip().encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    n_before = sum(turn["content"].count(reply) for turn in turns[:-1]) if reply else 0
    return text.count(reply) <= n_before if reply else False
