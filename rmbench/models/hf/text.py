"""From a conversation to token ids: chat template, plain transcript, or prompt and response as a text pair.

Three formats, chosen once per model and part of its identity:

chat   The tokenizer's own template, rendered to text and tokenised without adding special tokens: the
       template is the authority on BOS and EOS.
plain  Decoders without a template: `\\n\\nHuman: ...\\n\\nAssistant: ...` (a system text comes first, bare),
       tokenised with the tokenizer's special tokens, EOS appended if it is not there.
pair   Encoders without a template: (prompt, response) as the tokenizer's text pair. A prompt of one user turn
       is its text, any other prompt is a plain transcript.

An encoder whose tokenizer has a chat template was most likely trained on that (TRL does so), and reads it as
one text.

Long conversations are cut from the left: BOS or CLS stays, then the prompt's oldest tokens go first; only
when the response alone is too long does its beginning go. The end, where the reward is read, always stays.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from jinja2.exceptions import TemplateError

from rmbench.core.files import digest, read_whole
from rmbench.errors import ConfigError, UnwritableError, first_line
from rmbench.models.messages import more_of, text_alone, tools_of, write_all
from rmbench.types import Conversation, Turn

TEMPLATE_DATE = "2024-07-26"
"""The date that templates get, so that no score changes overnight: the default of Llama's templates."""

# Shadows the renderer's clock; one format with dashes, else the one that Llama's templates ask for.
_FIXED_CLOCK = (
    "{%- macro strftime_now(format) -%}{{ '2024-07-26' if '-' in format else '26 Jul 2024' }}{%- endmacro -%}"
)
TEMPLATE_REFUSES = "refused by the chat template"
"""What `--on-bad skip` counts by."""
_SPEAKERS = {"user": "Human", "assistant": "Assistant"}


@dataclass(frozen=True, slots=True)
class Encoded:
    """One conversation as a model reads it."""

    ids: tuple[int, ...]
    type_ids: tuple[int, ...] | None = None
    truncated: bool = False
    reply: tuple[int, int] | None = None
    """Places of the reply's tokens, [first, end), where the format gives them (`ReplyFormat`)."""
    steps: tuple[int, ...] = ()
    """Places of the tokens that end a step of the reply."""
    unreadable: str = ""
    """Why there can be no reward; `ids` then only fill a place in a batch."""


class TextFormat(Protocol):
    """One of the three ways to write a conversation."""

    identity: str
    """Name and version, with a hash where it depends on the checkpoint."""

    def encode(self, batch: Sequence[Conversation], max_length: int) -> list[Encoded]:
        """Return at most `max_length` tokens per conversation."""
        ...

    def notes(self) -> list[str]:
        """Return remarks for the user."""
        ...


@runtime_checkable
class TemplatedFormat(Protocol):
    """A format that may be written by a chat template, which may leave something out."""

    def templated(self, turns: Conversation) -> str | None:
        """Return the text that the template writes; None where none is used."""
        ...


class ChatFormat:
    """The tokenizer's chat template.

    Args:
        tokenizer: A Hugging Face tokenizer.
        template: Jinja text; None for the tokenizer's own.

    Raises:
        ConfigError: If there is no template of its own, it cannot be used, or it drops the user's or the
            assistant's text.
    """

    def __init__(self, tokenizer: Any, template: str | None = None) -> None:
        self._tokenizer = tokenizer
        own = template or _own_template(tokenizer)
        self._template = _FIXED_CLOCK + own if "strftime_now" in own else own
        self._folds_system = self._must_fold_system()
        self._n_folded = 0
        self._unwritten: Counter[str] = Counter()
        self.identity = f"chat-1:{digest(own, 16)}" + (f":{TEMPLATE_DATE}" if self._template != own else "")

    def encode(self, batch: Sequence[Conversation], max_length: int) -> list[Encoded]:
        """Return the rendered conversations as ids, nothing added."""
        texts = [self.text(turns) for turns in batch]
        ids = self._tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return [cut(self._tokenizer, row, max_length) for row in ids]

    def text(self, turns: Conversation) -> str:
        """Return a conversation as the template writes it."""
        return clean(self._render(self._fold(turns)))

    def templated(self, turns: Conversation) -> str | None:
        """Return what `text` does."""
        return self.text(turns)

    def encode_prompt(self, turns: Sequence[Turn]) -> tuple[int, ...]:
        """Return a prompt as ids, up to where the reply begins."""
        text = clean(self._render(self._fold(turns), opens_reply=True))
        ids = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return cut(self._tokenizer, ids, len(ids)).ids

    def opens_reply(self) -> bool:
        """Say whether the template writes the beginning of a reply (`add_generation_prompt`)."""
        user = [Turn(role="user", content="QQuestionQ")]
        return self._render(user) != self._render(user, opens_reply=True)

    def notes(self) -> list[str]:
        """Return what was moved: system messages; and what messages hold that is not written."""
        told = []
        if self._n_folded:
            told.append(
                "the chat template has no system role: system messages were put before the first user turn"
            )
        if self._unwritten:
            keys = ", ".join(f"{key} ({n:,})" for key, n in sorted(self._unwritten.items()))
            told.append(f"messages hold what the chat template does not write: {keys} (conversations)")
        return told

    def _render(self, turns: Sequence[Turn], *, opens_reply: bool = False) -> str:
        if not any(more_of(turn) for turn in turns):
            return self._written(turns, opens_reply=opens_reply)
        text, unwritten = write_all(lambda some: self._written(some, opens_reply=opens_reply), turns)
        self._unwritten.update(unwritten)
        return text

    def _written(self, turns: Sequence[Turn], *, opens_reply: bool) -> str:
        messages = [{key: value for key, value in turn.items() if key != "tools"} for turn in turns]
        try:
            text = self._tokenizer.apply_chat_template(
                messages, tools=tools_of(turns), chat_template=self._template, tokenize=False,
                add_generation_prompt=opens_reply,
            )  # fmt: skip
        except Exception as error:  # a template is foreign code, and raises what it likes
            roles = ", ".join(turn["role"] for turn in turns)
            kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
            raise UnwritableError(
                f"the chat template refuses the roles {roles}: {kind}{first_line(error)}",
                turns,
                reason=TEMPLATE_REFUSES,
            ) from None
        return str(text)

    def _must_fold_system(self) -> bool:
        user, reply = Turn(role="user", content="QQuestionQ"), Turn(role="assistant", content="AAnswerA")
        try:
            plain = self._render([user, reply])
        except UnwritableError as error:
            raise ConfigError(
                f"the chat template cannot write a question and its reply ({error}); pass"
                " -M chat_template=FILE.jinja, or -M chat_template=plain to go without it"
            ) from None
        for name, probe in (("user", "QQuestionQ"), ("assistant", "AAnswerA")):
            if probe not in plain:
                raise ConfigError(
                    f"the chat template leaves out what the {name} said; the option chat_template=plain"
                    " goes without it"
                )
        try:
            return "SSystemS" not in self._render([Turn(role="system", content="SSystemS"), user, reply])
        except UnwritableError:
            return True

    def _fold(self, turns: Conversation) -> Conversation:
        if not self._folds_system or all(turn["role"] != "system" for turn in turns):
            return turns
        self._n_folded += 1
        return fold_system(turns)


def _own_template(tokenizer: Any) -> str:
    """Return the chat template of a tokenizer; of several with names, the default one.

    Raises:
        ConfigError: If none of several is the default, or a template has a syntax error.
    """
    told = tokenizer.chat_template
    if isinstance(told, dict) and "default" not in told:
        names = ", ".join(map(repr, sorted(told)))
        raise ConfigError(
            f"the tokenizer's chat templates are named {names}, and none is the default; write one"
            " to a file and pass -M chat_template=FILE.jinja, or -M chat_template=plain"
        )
    return str(tokenizer.get_chat_template())


class PlainFormat:
    """A `Human:` / `Assistant:` transcript for decoders without a chat template."""

    identity = "plain-1"

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def encode(self, batch: Sequence[Conversation], max_length: int) -> list[Encoded]:
        """Return the transcripts as ids, with the tokenizer's special tokens and an EOS."""
        texts = [self.text(turns) for turns in batch]
        eos = self._tokenizer.eos_token_id
        rows = self._tokenizer(texts, verbose=False)["input_ids"]
        rows = [row if eos is None or row[-1:] == [eos] else [*row, eos] for row in rows]
        return [cut(self._tokenizer, row, max_length) for row in rows]

    def text(self, turns: Conversation) -> str:
        """Return the transcript of a conversation."""
        text_alone(turns, "a plain transcript")
        return clean(transcript(turns))

    def encode_prompt(self, turns: Sequence[Turn]) -> tuple[int, ...]:
        """Return a prompt as ids, up to where the reply begins: a space, then its text."""
        text_alone(turns, "a plain transcript")
        ids = self._tokenizer(clean(f"{transcript(turns)}\n\nAssistant:"), verbose=False)["input_ids"]
        while ids and ids[-1] == self._tokenizer.eos_token_id:  # some tokenizers end every text
            ids = ids[:-1]
        return cut(self._tokenizer, ids, len(ids)).ids

    def opens_reply(self) -> bool:
        """Say that a transcript writes the beginning of a reply."""
        return True

    def notes(self) -> list[str]:
        """Say which format stands in."""
        return ["no chat template: conversations are written as a 'Human: ... Assistant: ...' transcript"]


class PairFormat:
    """Prompt and response as the two segments of an encoder's text pair."""

    identity = "pair-1"

    def __init__(self, tokenizer: Any) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ConfigError("an encoder needs a fast tokenizer (a tokenizer.json beside its weights)")
        self._tokenizer = tokenizer

    def encode(self, batch: Sequence[Conversation], max_length: int) -> list[Encoded]:
        """Return the pairs as ids, with type ids where the model knows them."""
        for turns in batch:
            text_alone(turns, "an encoder's pair of texts")
        prompts = [clean(_prompt_text(turns[:-1])) for turns in batch]
        replies = [clean(turns[-1]["content"]) for turns in batch]
        both = self._tokenizer(prompts, replies, verbose=False)
        return [self._one(both, row, max_length) for row in range(len(prompts))]

    def notes(self) -> list[str]:
        """Say that a template is there and not used, if so."""
        if getattr(self._tokenizer, "chat_template", None) is None:
            return []
        return ["an encoder: the prompt and the response are a text pair, its chat template is not used"]

    def _one(self, both: Any, row: int, max_length: int) -> Encoded:
        ids, types = both["input_ids"][row], both.get("token_type_ids")
        n_over = len(ids) - max_length
        kept: Sequence[int] = range(len(ids))
        if n_over > 0:
            segments = both.sequence_ids(row)
            # Oldest first: the prompt from its left, then the reply from its left; never a special token.
            going = [i for segment in (0, 1) for i, s in enumerate(segments) if s == segment][:n_over]
            kept = sorted(set(kept) - set(going))
        return Encoded(
            ids=tuple(ids[i] for i in kept),
            type_ids=tuple(types[row][i] for i in kept) if types is not None else None,
            truncated=n_over > 0,
        )


def fold_system(turns: Conversation) -> Conversation:
    """Return a conversation whose system messages stand before the text of the first user turn."""
    if all(turn["role"] != "system" for turn in turns):
        return turns
    system = "\n\n".join(turn["content"] for turn in turns if turn["role"] == "system")
    rest = [turn for turn in turns if turn["role"] != "system"]
    tools = {"tools": found} if (found := tools_of(turns)) else {}
    first = rest[0] if rest[0]["role"] == "user" else None
    text = system if first is None else f"{system}\n\n{first['content']}"
    joined = cast(Turn, {**(first or {"role": "user"}), "content": text, **tools})
    return [joined, *(rest if first is None else rest[1:])]


def transcript(turns: Sequence[Turn]) -> str:
    """Return the plain format: a system text bare, every other turn as `\\n\\nSpeaker: text`."""
    parts = []
    for turn in turns:
        if turn["role"] == "system":
            parts.append(turn["content"])
        else:
            speaker = _SPEAKERS.get(turn["role"], turn["role"].capitalize())
            parts.append(f"\n\n{speaker}: {turn['content']}")
    return "".join(parts)


def clean(text: str) -> str:
    """Return `text` with lone surrogates, which no tokenizer takes, as U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _prompt_text(turns: Sequence[Turn]) -> str:
    if len(turns) == 1 and turns[0]["role"] == "user":
        return turns[0]["content"]
    return transcript(turns).lstrip("\n")


def cut(tokenizer: Any, ids: list[int], max_length: int) -> Encoded:
    """Return at most `max_length` of `ids`, without a doubled BOS: BOS (or CLS) and the end stay."""
    bos = tokenizer.bos_token_id
    while bos is not None and ids[:2] == [bos, bos]:  # a template writes it after a tokenizer that adds it
        ids = ids[1:]
    if len(ids) <= max_length:
        return Encoded(tuple(ids))
    kept = {i for i in (bos, getattr(tokenizer, "cls_token_id", None)) if i is not None}
    head = ids[:1] if ids[0] in kept else []
    return Encoded(tuple(head + ids[len(ids) - max_length + len(head) :]), truncated=True)


class OneText:
    """A conversation as one text of an encoder: by a chat template, or as a plain transcript.

    Args:
        inner: How it is written.
    """

    def __init__(self, inner: ChatFormat | PlainFormat) -> None:
        self._inner = inner
        self.identity = f"one-text:{inner.identity}"

    def encode(self, batch: Sequence[Conversation], max_length: int) -> list[Encoded]:
        """Return the conversations as ids, all of one segment."""
        return self._inner.encode(batch, max_length)

    def notes(self) -> list[str]:
        """Say how it is read, and what else could be meant."""
        if isinstance(self._inner, ChatFormat):
            how = "an encoder with a chat template: a conversation is one text, written by that template"
        else:
            how = "an encoder: a conversation is one text, a 'Human: ... Assistant: ...' transcript"
        inner = self._inner.notes() if isinstance(self._inner, ChatFormat) else []
        return [f"{how}; -M chat_template=pair reads prompt and response as a text pair", *inner]


def choose_format(tokenizer: Any, is_encoder: bool, chat_template: str) -> TextFormat:
    """Return the format of a model.

    Args:
        tokenizer: A Hugging Face tokenizer.
        is_encoder: Whether the model can read text pairs.
        chat_template: `auto`, `plain`, `pair` (encoders), or the path of a Jinja file.

    Raises:
        ConfigError: If there is no such file, or a decoder is asked for a pair.
    """
    if not is_encoder:
        return decoder_format(tokenizer, chat_template)
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if chat_template == "pair" or (chat_template == "auto" and not has_template):
        return PairFormat(tokenizer)
    return OneText(decoder_format(tokenizer, chat_template))


def decoder_format(tokenizer: Any, chat_template: str) -> ChatFormat | PlainFormat:
    """Return the format of a decoder; as `choose_format`."""
    if chat_template == "pair":
        raise ConfigError(
            "option 'chat_template' is pair: a decoder reads one text, and text pairs are for encoders;"
            " expected auto, plain or a Jinja file"
        )
    if chat_template not in ("auto", "plain"):
        return ChatFormat(tokenizer, _read_template(chat_template))
    if chat_template == "auto" and getattr(tokenizer, "chat_template", None):
        return ChatFormat(tokenizer)
    return PlainFormat(tokenizer)


def _read_template(path: str) -> str:
    """Return the text of a chat template's file."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(
            f"option 'chat_template': there is no file {path}; expected auto, plain or a Jinja file"
        )
    return read_whole(file, what="option 'chat_template'")


NO_TOKENS = "a response without any tokens"
"""Why an empty response has no reward where the format writes nothing after it."""
