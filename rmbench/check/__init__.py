"""`rmbench check`: a test of a model's contract, in seconds, before its numbers are published.

Every check looks for a defect that has changed published numbers of reward models. A check asks the model a
few conversations and returns a result. It raises no error for a model that fails.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rmbench.check import contract, engine
from rmbench.check.contract import TOLERANCE, ContractError, Outcome, Subject
from rmbench.check.engine import diagnosed
from rmbench.errors import ConfigError
from rmbench.types import AnyModel, ConcurrentModel, PrecomputedRewards

LONG_CHARS = 8_000
"""Characters of the long probe: more than most encoders take; a small decoder needs seconds on a CPU."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check."""

    name: str
    passed: bool | None
    """None if the check does not apply, or only informs."""
    detail: str
    """The measurement, in words."""
    meaning: str
    """The effect of a failure on a published number."""


def check_model(
    model: AnyModel, *, tolerance: float | None = None, long_chars: int = LONG_CHARS
) -> list[CheckResult]:
    """Return the result of every check, in a fixed order.

    Args:
        model: A model of any of the three kinds. For rewards from a file only the identity is checked.
        tolerance: Allowed difference, as a fraction of the largest reward; None: `TOLERANCE` of the dtype.
        long_chars: Characters of the long prompt and the long response.

    Raises:
        ConfigError: If the model answers from a server, which would charge for the checks.
    """
    if isinstance(model, ConcurrentModel):
        raise ConfigError(
            "rmbench check asks about a hundred questions, which a judge would charge for, and tests promises"
            " that only rewards make; measure a judge's biases with --bias --limit 10, or try it with"
            " rmbench eval --limit 10 and read its flip rate"
        )
    if tolerance is None:
        tolerance = TOLERANCE.get(_dtype(model), TOLERANCE["float32"])
    subject = Subject(model, tolerance, long_chars)
    return [_run(name, check, meaning, subject) for name, check, meaning in _CHECKS]


def _run(name: str, check: Callable[[Subject], Outcome], meaning: str, subject: Subject) -> CheckResult:
    if isinstance(subject.model, PrecomputedRewards) and check is not contract.fingerprint:
        return CheckResult(name, None, "not applicable: the rewards were computed elsewhere", meaning)
    try:
        passed, detail = check(subject)
    except ContractError as failure:
        passed, detail = False, str(failure)
    return CheckResult(name, passed, detail, meaning)


def _dtype(model: AnyModel) -> str:
    try:
        return str(model.fingerprint().get("dtype", "float32"))
    except Exception:  # the check of the fingerprint reports it
        return "float32"


_CHECKS: tuple[tuple[str, Callable[[Subject], Outcome], str], ...] = (
    ("fingerprint", contract.fingerprint,
     "stored scores would be mixed with another model's, or never found again"),
    ("count and range", contract.count_and_range,
     "rewards would be missing, or belong to other responses"),
    ("order", contract.order,
     "rewards would be given to the wrong responses: every metric would be noise"),
    ("deterministic", contract.deterministic,
     "the published number would be one draw, and nobody could reproduce it"),
    ("batch size", contract.batch_invariance,
     "accuracy would depend on the batch size, by points (0.43 to 0.48 has been reported for sizes 1 to 3)"),
    ("padding", contract.padding_invariance,
     "a response's reward would depend on its neighbours: short ones beside long ones are misjudged"),
    ("engine", engine.exactness,
     "rewards would depend on how the engine batches, orders and shares; close pairs could change sides"),
    ("dtype", engine.other_dtype,
     "rewards of another precision are other rewards: never mix them in a comparison"),
    ("input untouched", contract.input_untouched,
     "later models, or the record, would see other texts than the data holds"),
    ("empty and one-character responses", contract.short_responses,
     "the run would stop at the first empty response, or it would be dropped from the mean"),
    ("very long response", contract.long_response,
     "the run would stop late, or long responses would be dropped from the mean"),
    ("long prompt", contract.long_prompt,
     "truncation removes the response: chosen and rejected tie, and accuracy drifts to 0.5"),
    ("unicode", contract.unicode,
     "the run would stop at the first such text, in data that is full of them"),
    ("roles", contract.roles,
     "conversations with a system message or several turns could not be scored, or would be misread"),
    ("tells responses apart", contract.tells_apart,
     "every comparison is a tie: accuracy 0.5, whatever the data (is the head trained?)"),
    ("prompt sensitivity", contract.prompt_sensitivity,
     "a model that ignores the prompt measures style, not whether the question was answered"),
    ("token counts", contract.token_counts,
     "batches would exceed the token budget, and truncation would be miscounted"),
    ("order of a pair", contract.order_bias,
     "a preference that follows the order is no preference; both orders are asked and averaged"),
    ("double BOS", diagnosed("double_bos"),
     "the model reads text unlike its training's: about a point of accuracy"),
    ("EOS", diagnosed("eos_seen"),
     "the reward is read at another token than in training: up to 6 points have been lost so"),
    ("pad is EOS", diagnosed("pad_is_eos"),
     "the reward would be read before the end, and chosen and rejected may get the same one"),
    ("own forward pass", diagnosed("own_forward_gap"),
     "the reward is not the one that the model's authors computed"),
    ("the card's example", engine.card_example,
     "the reward is not the one that the model's authors computed"),
)  # fmt: skip
