"""Text of recipes for steps: a mark after each step, and the tokens at which values are read."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from rmbench.core.files import conversation_key
from rmbench.errors import ConfigError, UnwritableError
from rmbench.models.hf.recipes.recipe import Recipe
from rmbench.models.hf.recipes.steps import Steps
from rmbench.models.hf.recipes.text import TurnsFormat
from rmbench.models.hf.reply import token_begins
from rmbench.models.hf.text import (
    ChatFormat,
    Encoded,
    PlainFormat,
    clean,
    cut,
    decoder_format,
)
from rmbench.models.messages import text_alone
from rmbench.types import Conversation, Turn

_STAND_IN = "QStepQ"
"""Stands for a text, to see where a template writes it."""
_MOST_KEPT = 1_000


class StepFormat:
    """Conversations with a mark after each step of the reply.

    Args:
        tokenizer: A fast Hugging Face tokenizer: only those give a token's place in the text.
        recipe: How the text is written; it has steps.
        steps: Of the recipe.
        chat_template: As in `choose_format`; other than `auto` it stands in place of the recipe's text.

    Raises:
        ConfigError: If the tokenizer is a slow one, or writes no token for the mark.
    """

    def __init__(self, tokenizer: Any, recipe: Recipe, steps: Steps, chat_template: str) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ConfigError("rewards of steps need a fast tokenizer (a tokenizer.json beside the weights)")
        self._tokenizer, self._steps, self._system = tokenizer, steps, recipe.system
        self._inner: ChatFormat | PlainFormat | TurnsFormat
        if recipe.text is not None and chat_template == "auto":
            self._inner, inner = TurnsFormat(tokenizer, recipe.text), "recipe"
        else:
            self._inner = decoder_format(tokenizer, chat_template)
            inner = self._inner.identity
        self._is_chat = isinstance(self._inner, ChatFormat)
        self._mark_ids = self._ids(steps.mark)
        if not self._mark_ids:
            raise ConfigError(f"the tokenizer writes no token for {steps.mark!r}, which ends a step")
        if steps.one_token and len(self._mark_ids) != 1:
            raise ConfigError(
                f"the tokenizer writes {steps.mark!r}, which ends a step, as {len(self._mark_ids)} tokens;"
                f" the recipe {recipe.name} expects one: take the tokenizer's files that came with the model"
            )
        self._begun: dict[str, list[int]] = {}
        self.identity = f"{inner}:{recipe.identity}"

    def encode(self, batch: Sequence[Conversation], max_length: int) -> list[Encoded]:
        """Return the conversations as ids, with the token of each step.

        Raises:
            UnwritableError: If the chat template refuses one, or changes its steps.
        """
        if self._steps.written == "tokens":
            return [self._in_tokens(turns, max_length) for turns in map(self._with_system, batch)]
        write = self._in_turns if self._steps.written == "turns" else self._in_text
        texts, ends = zip(*[write(self._with_system(turns)) for turns in batch], strict=True)
        both = self._tokenizer(
            list(texts), add_special_tokens=not self._is_chat, return_offsets_mapping=True, verbose=False
        )
        found = zip(both["input_ids"], both["offset_mapping"], ends, strict=True)
        return [self._placed(ids, places, at, max_length) for ids, places, at in found]

    def notes(self) -> list[str]:
        """Return the remarks of the format inside."""
        return self._inner.notes()

    def _with_system(self, turns: Conversation) -> list[Turn]:
        text_alone(turns, "a format with steps")
        *prompt, reply = turns
        if self._system is not None and all(turn["role"] != "system" for turn in prompt):
            prompt = [Turn(role="system", content=self._system), *prompt]
        return [*prompt, Turn(role=reply["role"], content=clean(reply["content"]))]

    def _in_text(self, turns: Sequence[Turn]) -> tuple[str, list[int]]:
        """Return the text, and where each mark ends in it."""
        steps = self._steps.of(turns[-1]["content"])
        parts = [f"{step}{self._steps.mark}" for step in steps]
        between = self._steps.between
        reply = between.join(parts)
        text = self._inner.text([*turns[:-1], Turn(role=turns[-1]["role"], content=reply)])
        start, taken = text.rfind(reply), 0
        if start < 0 and reply == reply.rstrip():  # templates take white space away
            start, taken = text.rfind(reply.lstrip()), len(reply) - len(reply.lstrip())
        ends = [n - len(between) for n in accumulate(len(part) + len(between) for part in parts)]
        if start < 0:
            raise UnwritableError(
                f"the chat template changes a reply in which {self._steps.mark!r} ends the steps, so where"
                " they end is unknown; pass -M chat_template=plain, or a Jinja file that keeps replies as"
                " they are", turns, reason="the template changes a reply with marks",
            )  # fmt: skip
        return text, [start - taken + end for end in ends]

    def _in_turns(self, turns: Sequence[Turn]) -> tuple[str, list[int]]:
        """Return the text, and where each answer to a step begins in it."""
        *earlier, reply = turns
        if not earlier or earlier[-1]["role"] != "user":
            raise UnwritableError(
                "each step is a turn of the user, so the turn before the reply has to be one", turns,
                reason="no turn of the user before the reply",
            )  # fmt: skip
        first, *rest = self._steps.of(reply["content"])
        asked = [f"{earlier[-1]['content']}{self._steps.between}{first}", *rest]
        talk = [*earlier[:-1]]
        for step in asked:
            talk += [Turn(role="user", content=step), Turn(role="assistant", content=_STAND_IN)]
        parts = self._inner.text(talk).split(_STAND_IN)
        if len(parts) != len(asked) + 1:
            raise UnwritableError(
                f"the chat template writes {len(parts) - 1} of {len(asked)} answers to steps; pass"
                " -M chat_template=FILE with one that writes all turns", turns,
                reason="the template leaves out answers to steps",
            )  # fmt: skip
        mark = self._steps.mark
        begins = list(accumulate(len(part) + len(mark) for part in parts[:-1]))
        return mark.join(parts), [end - len(mark) for end in begins]

    def _in_tokens(self, turns: Sequence[Turn], max_length: int) -> Encoded:
        ids = list(self._beginning(turns[:-1], turns[-1]["role"]))
        first, ends = len(ids), list[int]()
        for step in self._steps.of(turns[-1]["content"]):
            ids += [*self._ids(step), *self._mark_ids]
            ends.append(len(ids) - 1)
        return self._cut(ids, first, ends, max_length)

    def _beginning(self, prompt: Conversation, role: str) -> list[int]:
        """Return what is written before a reply, as ids."""
        key = conversation_key([*prompt, Turn(role=role, content="")])
        if key not in self._begun:
            text = self._inner.text([*prompt, Turn(role=role, content=_STAND_IN)])
            before, mark, _ = text.rpartition(_STAND_IN)
            if not mark:
                raise UnwritableError(
                    "the chat template leaves out the reply to a conversation of this kind", prompt,
                    reason="the template leaves out the reply",
                )  # fmt: skip
            ids = self._tokenizer(before, add_special_tokens=not self._is_chat, verbose=False)["input_ids"]
            while ids and ids[-1] == self._tokenizer.eos_token_id and not self._is_chat:
                ids = ids[:-1]  # some tokenizers end every text
            if len(self._begun) > _MOST_KEPT:
                self._begun.clear()
            self._begun[key] = ids
        return self._begun[key]

    def _placed(
        self, ids: list[int], places: Sequence[tuple[int, int]], at: Sequence[int], max_length: int
    ) -> Encoded:
        """Return a row whose steps are at characters: ends of marks, or of `turns` beginnings."""
        begins = token_begins(places)
        if self._steps.written == "turns":
            ends = [next(i for i, place in enumerate(places) if place[1] > place[0] and place[1] > where) - 1
                    for where in at]  # fmt: skip
        else:
            ends = [max(i for i, begin in enumerate(begins) if begin < where) for where in at]
        return self._cut(ids, min(ends), ends, max_length)

    def _cut(self, ids: list[int], first: int, ends: Sequence[int], max_length: int) -> Encoded:
        row = cut(self._tokenizer, ids, max_length)
        gone = len(ids) - len(row.ids)
        kept = [end - gone for end in ends if end - gone > 0]
        if not kept:
            raise UnwritableError(
                f"no step of a reply is left in {max_length} tokens; pass a larger -M max_length=",
                reason="no step is left after truncation",
            )
        return Encoded(
            row.ids, truncated=row.truncated, reply=(max(first - gone, 1), len(row.ids)), steps=tuple(kept)
        )

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return found
