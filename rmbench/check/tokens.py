"""The checks that need to see tokens: optional hooks of an adapter, as `rmbench.models.hf` has them."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from rmbench.check.contract import padding_invariance
from rmbench.check.subject import ContractError, Outcome, Subject, probes
from rmbench.types import Conversation


@runtime_checkable
class DiagnosableModel(Protocol):
    """Optional: an adapter that can say how it reads one conversation, token by token."""

    def diagnose(self, conversation: Conversation) -> Mapping[str, Any]:
        """Return any of `double_bos`, `eos_seen`, `pad_is_eos`, `read_at`, `own_forward_gap`; None: n/a."""
        ...


def _double_bos(value: Any, _seen: Mapping[str, Any], _subject: Subject) -> Outcome:
    return not value, "the text begins with two BOS tokens" if value else "one BOS at most"


def _eos_seen(value: Any, seen: Mapping[str, Any], _subject: Subject) -> Outcome:
    where = f"the reward is read at {seen.get('read_at')!r}"
    return bool(value), f"EOS after the response; {where}" if value else f"no EOS; {where}"


def _pad_is_eos(value: Any, seen: Mapping[str, Any], subject: Subject) -> Outcome:
    passed, detail = padding_invariance(subject)
    if not value:
        return passed, "padding is a token of its own"
    own = seen.get("own_read_at")
    differs = own is not None and own != seen.get("read_at")
    aside = f"; transformers' own forward pass would read at {own!r}" if differs else ""
    return passed, f"padding is EOS; read by mask at {seen.get('read_at')!r}{aside}; {detail}"


def _own_forward(value: Any, _seen: Mapping[str, Any], subject: Subject) -> Outcome:
    return value <= subject.tolerance, f"difference {value:.1e} (allowed {subject.tolerance:.0e})"


_TOKEN_CHECKS: dict[str, Callable[[Any, Mapping[str, Any], Subject], Outcome]] = {
    "double_bos": _double_bos,
    "eos_seen": _eos_seen,
    "pad_is_eos": _pad_is_eos,
    "own_forward_gap": _own_forward,
}


def diagnosed(key: str) -> Callable[[Subject], Outcome]:
    """Return the check of one thing that only the adapter can see."""

    def check(subject: Subject) -> Outcome:
        if not isinstance(subject.model, DiagnosableModel):
            return None, "not applicable: the model does not show its tokens"
        try:
            seen = subject.model.diagnose(probes()[0])
        except Exception as error:
            raise ContractError(f"diagnose() raised {type(error).__name__}: {error}") from error
        value = seen.get(key)
        if value is None:
            return None, "not applicable here"
        return _TOKEN_CHECKS[key](value, seen, subject)

    return check
