"""What a notebook or a script uses: the same runs, numbers and boards as the command line's.

All of it is reachable from the top: `rmbench.evaluate`, `rmbench.load_records`, `rmbench.leaderboard`,
`rmbench.compare`.
"""

from rmbench.api.calls import compare, evaluate, leaderboard, load_records
from rmbench.api.records import Records

__all__ = ["Records", "compare", "evaluate", "leaderboard", "load_records"]
