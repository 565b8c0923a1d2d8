"""Options of decoding: how responses are drawn from a policy."""

from dataclasses import asdict, dataclass
from typing import Any

from rmbench.core.option_fields import option


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How responses are drawn."""

    n: int = option(16, "Responses per prompt.", "-n", min=1)
    temperature: float = option(1.0, "0 takes the likeliest token.", min=0)
    top_k: int = option(0, "Only the K likeliest tokens; 0 for all.", min=0)
    top_p: float = option(
        1.0, "Only the likeliest tokens that together have this probability.", min=0, max=1, min_open=True
    )
    max_tokens: int = option(512, "Most tokens of a response, its end token included.", min=1)
    seed: int = option(0, "Seed of the responses and of --limit.", env="RMBENCH_SEED", min=0)
    stop: tuple[str, ...] = option(
        (), r"End a response before TEXT (repeat); \n is a line break.", metavar="TEXT"
    )

    def settings(self) -> dict[str, Any]:
        """Return the settings that a pool records; `stop` only if there are stop texts, as in older pools."""
        found = asdict(self)
        stop = found.pop("stop")
        return found | ({"stop": sorted(set(stop))} if stop else {})
