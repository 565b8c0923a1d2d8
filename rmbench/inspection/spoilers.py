"""What spoils numbers, in texts and pairs: each with a count, an example and what to do."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rmbench.core.escape import one_line
from rmbench.models.messages import is_blank, text_of
from rmbench.tasks.rows import Row
from rmbench.types import Item

_EXCERPT = 80
_FEWEST_PAIRS = 20
"""Fewest pairs whose lengths are compared: with fewer, chance does as much."""
_SHARE_LONGER = 0.65
_LONG_PROMPT = 20
"""Characters from which a reply that begins with its prompt repeats it; short ones recur by chance."""

_TEMPLATED = re.compile(
    r"<\|(?:im_start|im_end|start_header_id|end_header_id|eot_id|begin_of_text|endoftext|user|assistant|system"
    r"|end|return|message)\|>|\[/?INST\]|<<SYS>>|<(?:start|end)_of_turn>|<｜[^｜<>]{1,30}｜>|\A<s>|</s>\s*\Z"
    r"|\A<bos>|<eos>\s*\Z"
)
_SPEAKERS = tuple(
    re.compile(rf"(?:\A|\n)\s*(?:\*\*)?(?:{who})(?:\*\*)?\s*:", re.IGNORECASE)
    for who in ("human|user", "assistant|ai|bot|gpt")
)
_BROKEN = re.compile("\ufffd|Ã[\u0080-\u00bf\u0192-\u2122]|Â[\u00a0-\u00bf]|â€[\u0080-\u2122]|ðŸ")
_SCRIPTS = {
    "Latin": "A-Za-z\u00c0-\u024f", "Greek": "\u0370-\u03ff", "Cyrillic": "\u0400-\u052f",
    "Hebrew": "\u0590-\u05ff", "Arabic": "\u0600-\u06ff", "Devanagari": "\u0900-\u097f",
    "Thai": "\u0e00-\u0e7f",
    "Chinese or Japanese": "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff", "Korean": "\uac00-\ud7af",
}  # fmt: skip
_OF_SCRIPT = {name: re.compile(f"[{signs}]") for name, signs in _SCRIPTS.items()}
_MEASURED = 2_000
"""Characters of a text by which its script is known."""

WHAT_TO_DO = {
    "text that is templated already": (
        "the model's own template is put around it again: give the bare texts, or messages"
    ),
    "replies that repeat their prompt": (
        "the prompt is read twice: take it from the replies, or give whole conversations as messages"
    ),
    "a transcript in one turn": (
        "the model reads one turn of one speaker: give messages, or a transcript that begins with"
        " '\\n\\nHuman:', which is divided"
    ),
    "replies without any text": "they keep their place and their gold; leave them out if they are no answers",
    "prompts without any text": "nothing is asked: look at the column of the prompt",
    "arguments of calls as JSON text": (
        "chat templates expect objects, and write such text with its quotes escaped: parse it, if the model"
        " was trained on objects"
    ),
    "broken encoding": "the file was written or read in another encoding than UTF-8: make it again",
    "prompt and reply in different scripts": "the model may know one of the languages alone: look at them",
    "one side is longer": (
        "a preference for length wins on this data: compare with --model length, and look at the"
        " length-controlled accuracy"
    ),
    "items that stand twice": "the average counts them twice: leave one of each out",
    "pairs that stand in both orders": "each contradicts the other: nothing can be right on both",
    "pairs with identical sides": "they compare nothing, and are left out",
    "rows that do not fit": "they are left out here; other commands stop there, unless --on-bad skip is set",
    "prompts of one split that are in another": "a model that trained on one knows them: leave them out",
    "conversations that are cut": (
        "their beginning is lost: pass a larger -M max_length=, if the model was trained on such lengths"
    ),
    "pairs that are the same after the cut": "the model cannot tell them apart, and ties",
    "replies that the chat template changes": (
        "a part of the reply is not read, such as <think>...</think>; pass -M chat_template=FILE of one that"
        " keeps it, if the model was trained with it"
    ),
    "conversations that the model cannot write": "--on-bad skip leaves such items out, and counts them",
}
"""Name of what spoils numbers -> what to do."""


@dataclass(slots=True)
class Spoiler:
    """One kind of what spoils numbers."""

    name: str
    n: int = 0
    of: int | None = None
    """Out of how many; None where that says nothing."""
    example: str = ""
    """File, line and the beginning of the text, of the first."""

    @property
    def advice(self) -> str:
        """What to do."""
        return WHAT_TO_DO[self.name]


@dataclass(slots=True)
class Spoilers:
    """All that was found, by name."""

    found: dict[str, Spoiler] = field(default_factory=dict)
    scripts: Counter[str] = field(default_factory=Counter)
    """Script of the prompt -> items."""
    _longer: Counter[str] = field(default_factory=Counter)
    _first_longer: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, example: str, n: int = 1, of: int | None = None) -> None:
        """Count one more of a kind; the first gives the example."""
        if n <= 0:
            return
        spoiler = self.found.setdefault(name, Spoiler(name, example=example))
        spoiler.n += n
        spoiler.of = of

    def read(self, item: Item, row: Row) -> None:
        """Look at the texts of an item."""
        for name, text in _in_texts(item):
            self.add(name, place_of(row, text))
        if len(item.responses) == 2:
            self._compare_lengths(item, row)
        asked = script_of(item.prompt[-1]["content"]) if item.prompt else ""
        if asked:
            self.scripts[asked] += 1
        for response in item.responses:
            said = script_of(response.text)
            if asked and said and said != asked:
                self.add(
                    "prompt and reply in different scripts",
                    place_of(row, f"{asked}, {said}: {response.text}"),
                )

    def in_order(self) -> list[Spoiler]:
        """Return what was found, in the order of `WHAT_TO_DO`."""
        return [self.found[name] for name in WHAT_TO_DO if name in self.found]

    def finish(self) -> None:
        """Say whether one side of the pairs is mostly longer."""
        n, longer = self._longer["pairs"], self._longer["better"]
        for side, count in (("better", longer), ("worse", self._longer["worse"])):
            if n >= _FEWEST_PAIRS and count / n > _SHARE_LONGER:
                self.add("one side is longer", f"the {side} reply; {self._first_longer[side]}", count, n)

    def _compare_lengths(self, item: Item, row: Row) -> None:
        first, second = item.responses
        if first.gold is None or second.gold is None or first.gold == second.gold:
            return
        better, worse = (first, second) if first.gold > second.gold else (second, first)
        a, b = len(better.text), len(worse.text)
        self._longer["pairs"] += 1
        if a != b:
            side = "better" if a > b else "worse"
            self._longer[side] += 1
            self._first_longer.setdefault(side, place_of(row, f"{a:,} and {b:,} characters"))


def place_of(row: Row, text: str) -> str:
    """Return where a row stands, with the beginning of a text of it."""
    return one_line(f"{row.path.name}, line {row.line}: {text.strip()[:_EXCERPT]}")


def script_of(text: str) -> str:
    """Return the script of most letters of a text; empty without letters, or where none has half of them."""
    counts = {name: len(signs.findall(text[:_MEASURED])) for name, signs in _OF_SCRIPT.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] * 2 > sum(counts.values()) else ""


def _has_text_arguments(call: Mapping[str, Any]) -> bool:
    told = call.get("function", call)
    return isinstance(told, Mapping) and isinstance(told.get("arguments"), str)


def _in_texts(item: Item) -> Iterator[tuple[str, str]]:
    """Yield (name, text to show) for each text of an item that has something."""
    asked = item.prompt[-1]["content"].strip() if item.prompt else ""
    replies = [response.turn for response in item.responses]
    for turn in (*item.prompt, *replies):
        text = turn["content"]
        if found := _TEMPLATED.search(text):
            yield "text that is templated already", text[max(0, found.start() - 20) :]
        if all(speaker.search(text) for speaker in _SPEAKERS):
            yield "a transcript in one turn", text
        if found := _BROKEN.search(text):
            yield "broken encoding", text[max(0, found.start() - 20) :]
        if any(_has_text_arguments(call) for call in turn.get("tool_calls") or ()):
            yield "arguments of calls as JSON text", text_of(turn)
    if not any(turn["content"].strip() for turn in item.prompt):
        yield "prompts without any text", item.id
    for turn in replies:
        if is_blank(turn):
            yield "replies without any text", item.id
        elif len(asked) >= _LONG_PROMPT and turn["content"].lstrip().startswith(asked):
            yield "replies that repeat their prompt", turn["content"]
