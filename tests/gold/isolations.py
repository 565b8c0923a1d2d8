"""The kinds of isolation that this machine has for programs."""

from rmbench.errors import ConfigError
from rmbench.gold.program import found_isolation


def works(kind: str) -> bool:
    try:
        return found_isolation(kind) == kind  # type: ignore[arg-type]
    except ConfigError:
        return False


ISOLATED = [kind for kind in ("unshare", "bwrap") if works(kind)]
KINDS = [*ISOLATED, "none"]
BEST = KINDS[0]
