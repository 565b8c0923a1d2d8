"""Options of decoding: how responses are drawn from a policy."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from rmbench.core.options import Option


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How responses are drawn."""

    n: Annotated[int, Option("Responses per prompt.", flags="-n", low=1)] = 16
    temperature: Annotated[float, Option("0 takes the likeliest token.", low=0)] = 1.0
    top_k: Annotated[int, Option("Only the K likeliest tokens; 0 for all.", low=0)] = 0
    top_p: Annotated[
        float,
        Option("Only the likeliest tokens that together have this probability.", above=0, high=1),
    ] = 1.0
    max_tokens: Annotated[int, Option("Most tokens of a response, its end token included.", low=1)] = 512
    seed: Annotated[int, Option("Seed of the responses and of --limit.", env="RMBENCH_SEED", low=0)] = 0
    stop: Annotated[
        tuple[str, ...],
        Option(r"End a response before TEXT (repeat); \n is a line break.", metavar="TEXT", single=True),
    ] = ()

    def settings(self) -> dict[str, Any]:
        """Return the settings that a pool records; `stop` only if there are stop texts, as in older pools."""
        found = asdict(self)
        stop = found.pop("stop")
        return found | ({"stop": sorted(set(stop))} if stop else {})
