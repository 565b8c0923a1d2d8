"""One row of a known layout, as an item."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from rmbench.core.files import prompt_cluster
from rmbench.models.messages import is_blank
from rmbench.tasks import fields
from rmbench.tasks.containers import is_table_of_text
from rmbench.tasks.layouts import columns as known
from rmbench.tasks.layouts.columns import Names
from rmbench.tasks.layouts.conversation import Turns, is_messages, reply_of, turns_of
from rmbench.tasks.layouts.reading import Reading
from rmbench.tasks.layouts.recognise import Layout, score_key
from rmbench.tasks.layouts.winners import winner_of
from rmbench.tasks.messages import tools_in, unread_keys, with_tools
from rmbench.tasks.own import shown_of
from rmbench.tasks.rows import Row
from rmbench.types import GoldKind, Item, Response, Turn

_LONGEST_STRATUM = 60
"""Characters."""


@dataclass(slots=True)
class RowReader:
    """One row."""

    reading: Reading
    row: Row
    names: Names
    layout: Layout
    seen: set[str] = field(default_factory=set)

    def value(self, name: str) -> Any:
        """Return what a column holds, by the name that is compared."""
        self.seen.add(name)
        return self.row.value[self.names.of[name]]

    def optional(self, wanted: tuple[str, ...], not_in: tuple[str, ...] = ()) -> tuple[str, Any] | None:
        """Return (name, value) of the first of some columns that holds something; None for none."""
        for name in wanted:
            if name in self.names.of and name not in not_in:
                value = self.row.value[self.names.of[name]]
                if value not in (None, "", []):
                    self.seen.add(name)
                    return name, value
        return None

    def item(self) -> Item | None:
        """Return the row's item; None if it is left out, which is counted."""
        replies, befores = self._replies()
        golds = self._gold(len(replies))
        if golds is None:
            return None
        gold, kind = golds
        prompt, replies = self._prompt(befores, replies)
        responses = tuple(map(Response.of, replies, gold))
        if len({response.content for response in responses}) == 1:
            self.reading.bad.leave_out("identical responses", row=self.row)
            return None
        expected, strata = self._shown(), self._strata()
        self._note_unread()
        return Item(
            id=self._id(), prompt=prompt, cluster=prompt_cluster(prompt), strata=strata, gold_kind=kind,
            responses=responses, expected=expected,
        )  # fmt: skip

    def _replies(self) -> tuple[list[Turn], list[Turns]]:
        if self.layout.kind != "pool":
            values = [(self.names.of[name], self.value(name)) for name in self.layout.replies]
            if all(isinstance(v, list) and v and all(isinstance(t, str) for t in v) for _, v in values):
                values = [(f"{key}[{n}]", text) for key, found in values for n, text in enumerate(found)]
        else:
            (name,) = self.layout.replies
            found = self.value(name)
            if not isinstance(found, list) or len(found) < 2:
                raise self.row.error(
                    "expected a list of at least two replies", self.names.of[name], "fewer than two responses"
                )
            values = [(f"{self.names.of[name]}[{n}]", _text_in(reply)) for n, reply in enumerate(found)]
        read = [reply_of(self.row, key, value) for key, value in values]
        return [reply for _, reply in read], [before for before, _ in read]

    def _prompt(self, befores: list[Turns], replies: list[Turn]) -> tuple[Turns, list[Turn]]:
        given = self._given_prompt()
        before = max(befores, key=len)
        if any(each not in (before, ()) for each in befores):
            raise self.row.error(
                "the conversations differ before the last reply",
                self.names.of[self.layout.replies[0]],
                "prompts differ",
            )
        prompt = before or given
        if before and given and before[-len(given) :] != given:
            raise self.row.error(
                "a reply's conversation differs from the prompt",
                self.names.of[self.layout.replies[0]],
                "prompts differ",
            )
        if not prompt:
            prompt, replies = self._implicit(replies)
        if prompt[-1]["role"] == "assistant":
            raise self.row.error(
                "the prompt ends with a turn of the assistant", reason="prompt ends with a reply"
            )
        system = self.optional(known.SYSTEMS)
        if system is not None and prompt[0]["role"] != "system":
            content = fields.text(self.row, self.names.of[system[0]], system[1])
            prompt = (Turn(role="system", content=content), *prompt)
        return self._with_tools(prompt), replies

    def _with_tools(self, prompt: Turns) -> Turns:
        found, column = self.optional(known.TOOLS), self.names.of.get("tools", "tools")
        value = None if found is None else found[1]
        asked = self.row.value.get(self.names.of.get("input", ""))
        if value is None and isinstance(asked, Mapping):
            value, column = asked.get("tools"), f"{self.names.of['input']}.tools"  # OpenAI's preference data
        return with_tools(prompt, tools_in(self.row, column, value))

    def _shown(self) -> dict[str, Any]:
        names = {}
        for key, columns in known.SHOWN.items():
            found = self.optional(columns, self.layout.columns())
            if found is not None and isinstance(found[1], str | list | Mapping):
                names[key] = self.names.of[found[0]]
        return shown_of(self.row, names)

    def _given_prompt(self) -> Turns:
        found = self.optional(known.PROMPTS, self.layout.columns())
        if found is None:
            return ()
        name, value = found
        key = self.names.of[name]
        if isinstance(value, Mapping) and is_messages(value.get("messages")):
            value = value["messages"]  # OpenAI's preference data
        turns = turns_of(self.row, key, value)
        if len(turns) > 1 and turns[-1]["role"] == "assistant" and is_blank(turns[-1]):
            turns = turns[:-1]  # a transcript that waits for the reply
        if name == "instruction" and (more := self.optional(("input",), self.layout.columns())):
            asked = fields.text(self.row, self.names.of["input"], more[1], allow_empty=True)
            turns = (
                (Turn(role="user", content=f"{turns[0]['content']}\n{asked}"),) if asked.strip() else turns
            )
        if name != "history" and (past := self.optional(("history",), self.layout.columns())):
            turns = (*_past(self.row, self.names.of["history"], past[1]), *turns)
        return turns

    def _implicit(self, replies: list[Turn]) -> tuple[Turns, list[Turn]]:
        """Return the text that all replies begin with, up to a word's end, as the prompt; as TRL does."""
        texts = [reply["content"] for reply in replies]
        same = takewhile(lambda signs: len(set(signs)) == 1, zip(*texts, strict=False))
        shared = "".join(signs[0] for signs in same)
        shared = shared[: max((k + 1 for k, sign in enumerate(shared) if sign.isspace()), default=0)]
        if not shared.strip() or len(texts) != 2 or any(reply.get("tool_calls") for reply in replies):
            raise self.row.error(
                "no prompt: expected a column such as 'prompt', whole conversations, or a text that both"
                " replies begin with",
                reason="no prompt",
            )
        self.reading.n_implicit += 1
        return (Turn(role="user", content=shared.rstrip()),), [
            Turn(role="assistant", content=text[len(shared) :]) for text in texts
        ]

    def _gold(self, n: int) -> tuple[list[float | None], GoldKind] | None:
        if self.layout.kind == "pool":
            return self._gold_of_pool(n)
        if self.layout.kind == "winner" and self.layout.gold_is != "scores":
            return self._gold_of_winner()
        if n > 2:  # lists of chosen and of rejected replies
            better = len(self.row.value[self.names.of[self.layout.replies[0]]])
            return [1.0 if k < better else 0.0 for k in range(n)], "label"
        if self.layout.gold_is == "strength" and self.reading.options.gold_from == "scores":
            (name,) = self.layout.gold
            size = self._number(name)
            if size <= 0:
                raise self.row.error(
                    f"{size:g}; expected a number above 0, or {self.reading.bad.option} gold_from=order",
                    self.names.of[name],
                    "strength is not positive",
                )
            return [size, 0.0], "graded"
        if self.layout.gold_is == "scores" and (
            self.layout.kind == "winner" or self.reading.options.gold_from == "scores"
        ):
            one, two = map(self._number, self.layout.gold)
            if one == two or (one < two and self.layout.kind == "pair"):
                self.reading.bad.leave_out(
                    "scores do not prefer a reply" if one == two else "the scores prefer the rejected reply"
                )
                return None
            return [one, two], "graded"
        return [1.0, 0.0], "label"

    def _gold_of_winner(self) -> tuple[list[float | None], GoldKind] | None:
        if self.layout.gold_is == "marks":
            marks = [self._number(name) for name in self.layout.gold]
            if sorted(marks) != [0.0] * (len(marks) - 1) + [1.0]:
                raise self.row.error(
                    f"{marks}; expected a single 1", self.names.of[self.layout.gold[0]], "no winner"
                )
            side, size = ("first", "second", "tie")[marks.index(1.0)], 1.0
        else:
            (name,) = self.layout.gold
            value, replies = self.value(name), self.layout.replies
            if name == "preference" and _is_share(value) and {replies[0][-1], replies[1][-1]} == {"1", "2"}:
                return [2.0 - value, value - 1.0], "probability"  # AlpacaEval: from 1, the first, to 2
            side, size = winner_of(
                self.row,
                self.names.of[name],
                value,
                replies,
                self.reading.sides,
                name,
                self.reading.bad.option,
            )
        if side == "tie":
            self.reading.bad.leave_out("no reply is better")
            return None
        kind: GoldKind = "label" if size == 1.0 and self.layout.gold[0] not in known.SIGNED else "graded"
        return ([size, 0.0] if side == "first" else [0.0, size]), kind

    def _gold_of_pool(self, n: int) -> tuple[list[float | None], GoldKind]:
        if self.layout.gold_is == "order":
            return [1.0, 0.0], "label"
        (name,) = self.layout.replies
        ranked = self.layout.gold_is == "ranks"
        if self.layout.gold_is == "inside":
            replies = self.row.value[self.names.of[name]]
            key = score_key(replies[0]) or ""
            ranked = known.plain(key) in known.RANKS
            values = [reply.get(key) if isinstance(reply, Mapping) else None for reply in replies]
            where = self.names.of[name]
        else:
            values, where = self.value(self.layout.gold[0]), self.names.of[self.layout.gold[0]]
        if not isinstance(values, list) or len(values) != n:
            raise self.row.error(
                f"expected a list of {n} numbers, one per reply", where, "gold and responses differ in length"
            )
        numbers = [None if v is None else _finite(self.row, f"{where}[{k}]", v) for k, v in enumerate(values)]
        return [None if v is None else -v if ranked else v for v in numbers], "label" if ranked else "graded"

    def _number(self, name: str) -> float:
        return _finite(self.row, self.names.of[name], self.value(name))

    def _strata(self) -> dict[str, str]:
        meant = set(self.reading.renamed.values()) - self.seen - set(known.IDS)
        found = {}
        for name in (*known.STRATA, *sorted(meant)):
            if name in self.names.of and name not in self.seen:
                value = self.row.value[self.names.of[name]]
                if (
                    isinstance(value, str | int)
                    and not isinstance(value, bool)
                    and 0 < len(str(value)) <= _LONGEST_STRATUM
                ):
                    found[name] = str(value)
                    self.seen.add(name)
                    self.reading.strata.setdefault(name)
        return found

    def _note_unread(self) -> None:
        for name, column in self.names.of.items():
            if name not in self.seen and name not in known.IDS[:1]:
                self.reading.unread.setdefault(column)
            elif name in self.seen:
                for key in unread_keys(self.row.value[column]):
                    self.reading.unread.setdefault(f"{column}[].{key}")

    def _id(self) -> str:
        name = self.names.first(known.IDS)
        value = None if name is None else self.row.value[self.names.of[name]]
        place = f"{self.row.path.name.split('.')[0]}:{self.row.line}"
        found = (
            str(value)
            if isinstance(value, str | int) and not isinstance(value, bool) and value != ""
            else place
        )
        if found in self.reading.ids:
            found = f"{found}:{self.row.line}"  # several pairs of one prompt
        self.reading.ids.add(found)
        return found


def _text_in(reply: Any) -> Any:
    """Return the text of a reply that is an object; other replies as they are."""
    if not isinstance(reply, Mapping) or is_messages(reply):
        return reply
    keys = {known.plain(key): key for key in reply}
    name = next((each for each in known.TEXTS if each in keys), None)
    return reply if name is None else reply[keys[name]]


def _past(row: Row, key: str, value: Any) -> Turns:
    """Return earlier turns: messages, or pairs of a question and its answer."""
    pairs = isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value)
    if not pairs:
        return turns_of(row, key, value)
    roles = ("user", "assistant")
    return tuple(
        Turn(role=role, content=fields.reply(row, f"{key}[{n}]", text))
        for n, pair in enumerate(value)
        for role, text in zip(roles, pair, strict=True)
    )


def _is_share(value: Any) -> bool:
    return isinstance(value, float) and 1.0 <= value <= 2.0 and value not in (1.0, 2.0)


def _finite(row: Row, key: str, value: Any) -> float:
    """Return a number; a table of text (CSV) has it as text."""
    if isinstance(value, str) and is_table_of_text(row.path):
        try:
            value = float(value)
        except ValueError:
            raise row.error(f"{value!r}; expected a number", key, "gold is not a number") from None
    return fields.finite(row, key, value)
