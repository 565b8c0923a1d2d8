"""Text of recipes: formats of named families, the end of the text, and the token whose state is read."""

from collections.abc import Sequence
from typing import Any

from rmbench.errors import ConfigError, ScoringError, UnwritableError
from rmbench.models.hf.recipes.recipe import Gate, Recipe, Turns
from rmbench.models.hf.text import ChatFormat, Encoded, PlainFormat, clean, cut, decoder_format, fold_system
from rmbench.models.messages import text_alone
from rmbench.types import Conversation, Turn

NOT_THERE = "a text without the token that is read"
"""What `--on-bad skip` counts by."""


class TurnsFormat:
    """A format that a recipe gives, turn by turn; tokenised with the tokenizer's special tokens.

    Args:
        tokenizer: A Hugging Face tokenizer.
        turns: The text of each turn.
    """

    def __init__(self, tokenizer: Any, turns: Turns) -> None:
        self._tokenizer, self._turns = tokenizer, turns

    def text(self, turns: Conversation) -> str:
        """Return a conversation as the format writes it."""
        form = self._turns
        text_alone(turns, "the recipe's format")
        if not form.system:
            turns = fold_system(turns)
        parts = [form.begin.replace("{bos}", self._tokenizer.bos_token or "")]
        for n, turn in enumerate(turns):
            pattern = {"user": form.user, "system": form.system}.get(turn["role"], form.assistant)
            parts.append(self._with_eos(pattern).replace("{text}", turn["content"]))
            if turn["role"] == "assistant" and n < len(turns) - 1:
                parts.append(self._with_eos(form.between))
        return clean("".join(parts))

    def notes(self) -> list[str]:
        """Return no remark: the recipe's own names it."""
        return []

    def _with_eos(self, pattern: str) -> str:
        return pattern.replace("{eos}", self._tokenizer.eos_token or "")


class RecipeFormat:
    """The text of a recipe: a chat template or a format, then what the recipe does to its end.

    Args:
        tokenizer: A Hugging Face tokenizer.
        recipe: How the text is written and where it is read.
        chat_template: As in `choose_format`.
        config: Of the model.
        places: Where the text is read; None where that is not known here.

    Raises:
        ConfigError: If the tokenizer lacks a token that the recipe needs.
    """

    def __init__(
        self, tokenizer: Any, recipe: Recipe, chat_template: str, config: Any, places: "Places | None"
    ) -> None:
        self._tokenizer, self._recipe, self._places = tokenizer, recipe, places
        self._replaces_text = recipe.text is not None and chat_template != "auto"
        self._inner: ChatFormat | PlainFormat | TurnsFormat
        if recipe.text is not None and chat_template == "auto":
            self._inner, inner = TurnsFormat(tokenizer, recipe.text), "recipe"
        else:
            self._inner = decoder_format(tokenizer, chat_template)
            inner = self._inner.identity
        self._appended = _appended(tokenizer, recipe.read_at, config)
        self._eos = tokenizer.eos_token_id
        if self._eos is None and (recipe.append_eos or recipe.read_at in ("last_eos", "before_eos")):
            raise ConfigError(f"the tokenizer has no EOS, which the recipe {recipe.name} needs")
        self.identity = f"{inner}:{recipe.identity}"

    def encode(self, batch: Sequence[Conversation], max_length: int) -> list[Encoded]:
        """Return at most `max_length` tokens per conversation.

        Raises:
            UnwritableError: If the chat template refuses one, or it lacks a token that is read.
        """
        is_chat = isinstance(self._inner, ChatFormat)
        texts = [self._ended(self._inner.text(self._asked(turns))) for turns in batch]
        ids = self._tokenizer(texts, add_special_tokens=not is_chat, verbose=False)["input_ids"]
        rows = [cut(self._tokenizer, self._closed(row), max_length) for row in ids]
        for turns, row in zip(batch, rows, strict=True):
            self._check_places(turns, row)
        return rows

    def _check_places(self, turns: Conversation, row: Encoded) -> None:
        if self._places is None or not row.ids:
            return
        try:
            self._places.of(row)
        except ScoringError as error:
            raise UnwritableError(str(error), turns, reason=NOT_THERE) from None

    def templated(self, turns: Conversation) -> str | None:
        """Return the text that the chat template inside writes; None without one."""
        return self._inner.text(turns) if isinstance(self._inner, ChatFormat) else None

    def notes(self) -> list[str]:
        """Return the remarks of the format inside, and that a template stands in place of a recipe's text."""
        other = f"-M chat_template= writes the text, in place of the recipe {self._recipe.name}"
        return [*self._inner.notes(), *[other] * self._replaces_text]

    def _asked(self, turns: Conversation) -> Conversation:
        """Return a conversation with the recipe's system message, unless it has one."""
        if self._recipe.system is None or any(turn["role"] == "system" for turn in turns):
            return turns
        return [Turn(role="system", content=self._recipe.system), *turns]

    def _ended(self, text: str) -> str:
        recipe, eos = self._recipe, self._tokenizer.eos_token
        if recipe.strip_newline:
            text = text.rstrip("\n")
        if recipe.append_eos and not text.endswith(eos):
            text += recipe.before_eos + eos
        return text

    def _closed(self, ids: list[int]) -> list[int]:
        """Return ids that end as the recipe says, whatever the tokenizer adds."""
        if isinstance(self._inner, PlainFormat) and ids[-1:] != [self._eos] and self._eos is not None:
            ids = [*ids, self._eos]  # as in `PlainFormat`
        is_chat = isinstance(self._inner, ChatFormat)
        if not is_chat and self._recipe.append_eos and ids[-2:] == [self._eos, self._eos]:
            ids = ids[:-1]  # a tokenizer that ends every text with EOS
        return ids if self._appended is None else [*ids, self._appended]


def _appended(tokenizer: Any, read_at: str, config: Any) -> int | None:
    """Return the id of the token that is written after every text; None for none."""
    kind, _, name = read_at.partition(":")
    if kind != "appended":
        return None
    if name.startswith("{") and name.endswith("}"):
        found = getattr(config, name[1:-1], None)
        n_tokens = int(config.get_text_config().vocab_size)
        if not isinstance(found, int) or not 0 <= found < n_tokens:
            raise ConfigError(
                f"read_at={read_at}: the config has {found!r} there; expected an id below {n_tokens}"
            )
        return found
    token = getattr(tokenizer, name, None) if name in ("cls_token", "sep_token", "eos_token") else name
    found = None if token is None else tokenizer.get_vocab().get(str(token))
    if found is None:
        raise ConfigError(
            f"read_at={read_at}: the tokenizer has no token {name!r}; expected one of its tokens"
        )
    return int(found)


class Places:
    """Finds the tokens whose states are read.

    Args:
        tokenizer: A Hugging Face tokenizer.
        read_at: As in `Recipe`.
        gate: Of the head, where it reads the end of the prompt; None for none.
    """

    def __init__(self, tokenizer: Any, read_at: str, gate: Gate | None) -> None:
        self._read_at, self._eos = read_at, tokenizer.eos_token_id
        marks = tokenizer(gate.before, add_special_tokens=False)["input_ids"] if gate else []
        self._marks, self._gate = tuple(marks), gate

    def of(self, row: Encoded) -> list[int]:
        """Return the place of the reward in a row, after that of the gate where there is one.

        Raises:
            ScoringError: If the row has no such place.
        """
        if row.unreadable:
            return [0] if self._gate is None else [0, 0]
        return [*([] if self._gate is None else [self._gate_in(row)]), self._reward_in(row)]

    def _reward_in(self, row: Encoded) -> int:
        if self._read_at in ("last_eos", "before_eos"):
            wanted = self._read_at == "last_eos"
            found = [k for k, i in enumerate(row.ids) if (i == self._eos) == wanted]
            if not found:
                raise ScoringError(
                    f"read_at={self._read_at}: a text of {len(row.ids)} tokens has no such token; pass"
                    " -M append_eos=yes, or -M read_at=last"
                )
            return found[-1]
        return len(row.ids) - 1

    def _gate_in(self, row: Encoded) -> int:
        n = len(self._marks)
        for start in range(len(row.ids) - n, -1, -1):
            if row.ids[start : start + n] == self._marks:
                return start
        raise ScoringError(
            f"a text of {len(row.ids)} tokens lacks {self._gate.before if self._gate else ''!r}, where the"
            " gate is read; pass a larger -M max_length=, or the model's own chat template"
        )
