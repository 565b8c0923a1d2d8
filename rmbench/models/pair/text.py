"""Text of models that compare two replies: token ids of a pair, cut to the model's length.

A question (`Question`) is one text. Of a long one, the prompt loses what the recipe says; only when no prompt
is left do the replies lose their ends, both down to the same number of characters.

Marked texts (`Marks`) are three: prompt and replies, each with its mark and the tokenizer's special tokens.
Each is cut at its end, as the published code does.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rmbench.errors import ConfigError
from rmbench.models.hf.text import ChatFormat, Encoded, clean, decoder_format, fold_system, transcript
from rmbench.models.messages import text_alone
from rmbench.models.pair.recipe import Marks, Question
from rmbench.types import Pair, Turn

_CONVERSATION = (
    "Finish the following coversation in each i-th turn by filling in <Response i> with your response."
)
"""As PairRM's code writes it, misspelling and all."""
_FOLDED = "a system message is written before the first user turn"


@dataclass(frozen=True, slots=True)
class PairRow:
    """A pair as a model reads it."""

    text: Encoded
    places: tuple[int, ...] = ()
    """Places of the marks of the prompt, the first reply and the second."""


class QuestionText:
    """One text that asks which reply is better.

    Args:
        tokenizer: A Hugging Face tokenizer.
        form: The text.
        chat_template: `auto` (the tokenizer's, where the recipe asks for one), `plain`, or a Jinja file.
        max_length: Most tokens.
        where: The model, for messages.

    Raises:
        ConfigError: If a chat template is needed and there is none, or not even an empty question fits.
    """

    def __init__(
        self, tokenizer: Any, form: Question, chat_template: str, max_length: int, where: str
    ) -> None:
        self._tokenizer, self._form, self.max_length = tokenizer, form, max_length
        self._chat: ChatFormat | None = None
        if form.chat:
            chat = decoder_format(tokenizer, chat_template)
            self._chat = chat if isinstance(chat, ChatFormat) else None
            if self._chat is None and chat_template == "auto":
                raise ConfigError(
                    f"{where}: the question is a turn of a chat template, and its tokenizer has none; pass"
                    " -M chat_template=FILE, or -M chat_template=plain to ask without one"
                )
        elif chat_template != "auto":
            raise ConfigError(f"{where}: option 'chat_template': its recipe asks without a chat template")
        self._literals = re.split(r"\{(?:prompt|first|second)\}", form.text)
        self.identity = "question-1" + (f":{self._chat.identity}" if self._chat else "")
        if (n := len(self._ids([("", "", "")])[0])) > max_length:
            raise ConfigError(f"{where}: max_length is {max_length}; an empty question has {n} tokens")

    def encode(self, batch: Sequence[Pair]) -> list[PairRow]:
        """Return the token ids of each question, at most `max_length`."""
        texts = [tuple(map(self._line, (self._prompt(p.prompt), p.first, p.second))) for p in batch]
        rows = self._ids(texts)
        return [
            PairRow(Encoded(tuple(ids)) if len(ids) <= self.max_length else self._cut(*three))
            for ids, three in zip(rows, texts, strict=True)
        ]

    def notes(self) -> list[str]:
        """Return how prompts are written, where the answer is read, and if a template opens no reply."""
        turns = "; a prompt of several turns is written as a transcript" if self._form.turns is None else ""
        found = [_FOLDED + turns]
        if self._chat is None:
            return found
        last = self._tokenizer.decode([self._ids([("a", "b", "c")])[0][-1]])
        found.append(f"the answer is read after {last!r}, where the chat template ends")
        if self._chat.opens_reply():
            found.append(
                "the chat template does not open the reply by itself; nor does the family's own code"
            )
        return found

    def _prompt(self, prompt: Sequence[Turn]) -> str:
        text_alone(prompt, "the format of a pairwise model")
        turns, form = fold_system(prompt), self._form.turns
        if form is not None:
            said = [
                (form.assistant if turn["role"] == "assistant" else form.user).replace(
                    "{text}", turn["content"]
                )
                for turn in turns
            ]
            return "".join([form.begin, *said, form.end])
        if len(turns) == 1 and turns[0]["role"] == "user":
            return turns[0]["content"]
        return transcript(turns).lstrip("\n")

    def _line(self, text: str) -> str:
        return clean(text.replace("\n", " ") if self._form.one_line else text)

    def _ids(self, texts: Sequence[Sequence[str]]) -> list[list[int]]:
        """Return the token ids of questions about (prompt, first, second)."""
        written = []
        for three in texts:
            parts = [part for pair in zip(self._literals, three, strict=False) for part in pair]
            text = "".join([*parts, self._literals[-1]])
            if self._chat is not None:
                text = self._chat.text([Turn(role="user", content=text)])
                text = text.replace(self._tokenizer.bos_token or "\0", "")
            written.append(text)
        special = self._chat is None
        found: list[list[int]] = self._tokenizer(written, add_special_tokens=special, verbose=False)[
            "input_ids"
        ]
        return found

    def _cut(self, prompt: str, first: str, second: str) -> Encoded:
        """Return a question with as much of the prompt as fits, else with as much of the replies."""

        def with_prompt(n: int) -> list[int]:
            kept = prompt[:n] if self._form.cut == "end" else prompt[len(prompt) - n :]
            return self._ids([(kept, first, second)])[0]

        def with_replies(n: int) -> list[int]:
            return self._ids([("", first[:n], second[:n])])[0]

        for write, longest in ((with_prompt, len(prompt)), (with_replies, max(len(first), len(second)))):
            ids = write(0)
            if len(ids) <= self.max_length:
                ids = _most(write, longest, self.max_length)
                break
        return Encoded(tuple(ids), truncated=True)


def _most(write: Callable[[int], list[int]], longest: int, max_length: int) -> list[int]:
    """Return what `write` gives for the most characters that fit; 0 fits, `longest` does not."""
    low, high = 0, longest
    found = write(0)
    while high - low > 1:
        middle = (low + high) // 2
        ids = write(middle)
        if len(ids) <= max_length:
            low, found = middle, ids
        else:
            high = middle
    return found


class MarkedText:
    """Prompt and replies, each with its mark.

    Args:
        tokenizer: A Hugging Face tokenizer; marks that it lacks are added to it.
        marks: The marks and lengths.
        max_length: Most tokens of all three; None for the recipe's own.
        where: The model, for messages.

    Raises:
        ConfigError: If a mark is no token of its own, or `max_length` leaves no room for the texts.
    """

    def __init__(self, tokenizer: Any, marks: Marks, max_length: int | None, where: str) -> None:
        whole = marks.prompt_length + 2 * marks.reply_length
        self._tokenizer, self._marks = tokenizer, marks
        self.max_length = whole if max_length is None else max_length
        self._prompt_length = round(marks.prompt_length * self.max_length / whole)
        if missing := [mark for mark in marks.added if mark not in tokenizer.get_vocab()]:
            tokenizer.add_tokens(missing)
        self.ids = tuple(self._mark(mark, where) for mark in (marks.prompt, marks.first, marks.second))
        tokenizer.truncation_side = "right"
        n_special = len(tokenizer(marks.prompt, verbose=False)["input_ids"])
        if min(self._prompt_length, (self.max_length - self._prompt_length) // 2) <= n_special:
            raise ConfigError(
                f"{where}: max_length is {self.max_length}, which leaves no room for the replies; expected 32"
                f" or more, of up to {whole}"
            )
        self.identity = f"marks-1:{self._prompt_length}"

    def encode(self, batch: Sequence[Pair]) -> list[PairRow]:
        """Return the token ids of each pair, at most `max_length`."""
        three = [self._texts(pair) for pair in batch]
        ids = self._tokenizer([text for texts in three for text in texts], verbose=False)["input_ids"]
        return [self._row(texts, ids[3 * k : 3 * k + 3]) for k, texts in enumerate(three)]

    def notes(self) -> list[str]:
        """Return how prompts are written that the family has no format for."""
        return [f"{_FOLDED}; a prompt whose roles do not take turns is written as a transcript"]

    def _mark(self, mark: str, where: str) -> int:
        ids = self._tokenizer(mark, add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or ids[0] == self._tokenizer.unk_token_id:
            raise ConfigError(f"{where}: its tokenizer cuts {mark!r} into {len(ids)} tokens; expected one")
        return int(ids[0])

    def _texts(self, pair: Pair) -> list[str]:
        text_alone(pair.prompt, "the format of a pairwise model")
        turns = fold_system(pair.prompt)
        roles = [turn["role"] for turn in turns]
        source, replies = turns[0]["content"] if roles == ["user"] else None, [pair.first, pair.second]
        if source is None and roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]:
            source, replies = _conversation(turns, replies)
        elif source is None:
            source = transcript(turns).lstrip("\n")
        marks = (self._marks.prompt, self._marks.first, self._marks.second)
        return [mark + clean(text) for mark, text in zip(marks, (source, *replies), strict=True)]

    def _row(self, texts: Sequence[str], whole: Sequence[list[int]]) -> PairRow:
        prompt = self._most(texts[0], whole[0], self._prompt_length)
        left = (self.max_length - len(prompt)) // 2
        replies = [self._most(*each, left) for each in zip(texts[1:], whole[1:], strict=True)]
        ids, places = list[int](), list[int]()
        for part, mark in zip((prompt, *replies), self.ids, strict=True):
            places.append(len(ids) + part.index(mark))  # the first: what a text says comes after it
            ids += part
        return PairRow(Encoded(tuple(ids), truncated=len(ids) < sum(map(len, whole))), tuple(places))

    def _most(self, text: str, ids: list[int], most: int) -> list[int]:
        """Return the ids of a text, cut at its end; the special tokens around it stay."""
        if len(ids) <= most:
            return ids
        found: list[int] = self._tokenizer(text, truncation=True, max_length=most)["input_ids"]
        return found


def _conversation(turns: Sequence[Turn], replies: Sequence[str]) -> tuple[str, list[str]]:
    """Return a prompt of several turns as PairRM's code writes it, and replies with all that came before."""
    users, earlier = turns[::2], [turn["content"] for turn in turns[1::2]]
    asked = [f"USER: {turn['content']}\nAssistant: <Response {n}>" for n, turn in enumerate(users, 1)]
    said = [
        "\n".join(f"<Response {n}>: {text}" for n, text in enumerate([*earlier, reply], 1))
        for reply in replies
    ]
    return _CONVERSATION + "\n".join(asked), said
