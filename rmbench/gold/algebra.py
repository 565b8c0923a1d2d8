r"""Equality of two formulas: a small grammar parses them, sympy compares them.

sympy's own parsers evaluate Python, so they get no text here. The grammar knows numbers, letters,
`+ - * / ^`, brackets, `\frac`, `\sqrt` and a few functions; exponents and the size of the text are bounded
before sympy sees anything. The code runs inside `rmbench.gold.bounded`, under limits on time and memory.
"""

import re
from typing import Any

from rmbench.errors import ConfigError

_FUNCTIONS = ("sqrt", "sin", "cos", "tan", "log", "ln", "exp")
_GREEK = ("alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "phi", "omega")
_SAME_AS = {"cdot": "*", "times": "*", "div": "/"}
_TOKEN = re.compile(
    r"\s*(\d+(?:\.\d+)?|\.\d+|\*\*|[-+*/^(){}\[\]]|\\[A-Za-z]+"
    r"|(?:sqrt|sin|cos|tan|log|ln|exp|pi)(?![a-z])|[A-Za-z])"
)
_MAX_TOKENS = 200
_MAX_DEPTH = 20
_MAX_EXPONENT = 64
_MAX_BITS = 1024
_CLOSING = {"(": ")", "{": "}", "[": "]"}


class _NoFormulaError(Exception):
    """The text is not in the grammar."""


def prepare() -> None:
    """Import sympy now, so that no question spends its time limit on it.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        import sympy  # noqa: F401
    except ImportError:
        raise ConfigError("formulas are compared by sympy: pip install 'rmbench[verifiers]'") from None


def same_value(a: str, b: str) -> bool:
    """Return whether two formulas are equal for all values of their letters; False for other texts."""
    import sympy

    try:
        difference = _Reader(a).formula() - _Reader(b).formula()
        return bool(difference == 0 or sympy.simplify(difference) == 0)
    except (_NoFormulaError, TypeError, ValueError):  # the last two: sympy, of infinities
        return False


class _Reader:
    """Recursive descent parser of one formula."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        place = 0
        text = text.rstrip()
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None or len(self._tokens) >= _MAX_TOKENS:
                raise _NoFormulaError
            self._tokens.append(_SAME_AS.get(match[1].lstrip("\\"), match[1].lstrip("\\")))
            place = match.end()
        self._place = self._depth = 0

    def formula(self) -> Any:
        found = self._sum()
        if self._place < len(self._tokens):
            raise _NoFormulaError
        return found

    def _next(self) -> str:
        return self._tokens[self._place] if self._place < len(self._tokens) else ""

    def _take(self) -> str:
        self._place += 1
        return self._tokens[self._place - 1]

    def _sum(self) -> Any:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _NoFormulaError
        total = self._product()
        while self._next() in ("+", "-"):
            total = total + self._product() if self._take() == "+" else total - self._product()
        self._depth -= 1
        return total

    def _product(self) -> Any:
        total = self._signed()
        while (found := self._next()) and found not in ("+", "-", ")", "}", "]"):
            if self._tokens[self._place - 1][-1].isdigit() and found[0] in "0123456789.":
                raise _NoFormulaError  # two numbers side by side are no product
            if found == "/":
                self._take()
                divisor = self._signed()
                if divisor == 0:
                    raise _NoFormulaError
                total = total / divisor
            else:
                if found == "*":
                    self._take()
                total = total * self._signed()
            _check_size(total)
        return total

    def _signed(self) -> Any:
        sign = 1
        while self._next() in ("+", "-"):
            sign = -sign if self._take() == "-" else sign
        return sign * self._power()

    def _power(self) -> Any:
        base = self._atom()
        if self._next() not in ("^", "**"):
            return base
        self._take()
        negative = self._next() == "-"
        if negative:
            self._take()
        exponent = self._atom()
        exponent = -exponent if negative else exponent
        if exponent.is_number and abs(exponent) > _MAX_EXPONENT:
            raise _NoFormulaError
        if base == 0 and exponent.is_number and exponent <= 0:
            raise _NoFormulaError
        found = base**exponent
        _check_size(found)
        return found

    def _atom(self) -> Any:
        import sympy

        if not self._next():
            raise _NoFormulaError
        symbol = self._take()
        if symbol in _CLOSING:
            inside = self._sum()
            if self._next() != _CLOSING[symbol]:
                raise _NoFormulaError
            self._take()
            return inside
        if symbol[0].isdigit() or symbol[0] == ".":
            return sympy.Rational(symbol)
        if symbol == "frac":
            above, below = self._digit_or_bracket(), self._digit_or_bracket()
            if below == 0:
                raise _NoFormulaError
            return above / below
        if symbol in _FUNCTIONS:
            return self._function(symbol)
        if symbol == "pi":
            return sympy.pi
        if symbol in _GREEK or (len(symbol) == 1 and symbol.isalpha()):
            return sympy.Symbol(symbol)
        raise _NoFormulaError

    def _function(self, name: str) -> Any:
        import sympy

        root = 2
        if name == "sqrt" and self._next() == "[":
            root = self._atom()
            if not (root.is_Integer and 2 <= root <= _MAX_EXPONENT):
                raise _NoFormulaError
        argument = self._atom()
        if name == "sqrt":
            return sympy.root(argument, root)
        return getattr(sympy, name)(argument)

    def _digit_or_bracket(self) -> Any:
        token = self._next()
        if token.isdigit() and len(token) > 1:
            # LaTeX takes one digit: \\frac12 is 1/2.
            self._tokens[self._place : self._place + 1] = [token[0], token[1:]]
        return self._atom()


def _check_size(value: Any) -> None:
    if value.is_Rational and max(abs(value.p).bit_length(), value.q.bit_length()) > _MAX_BITS:
        raise _NoFormulaError
