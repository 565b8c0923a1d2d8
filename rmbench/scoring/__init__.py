"""From items to rewards: plan the work, compute the rewards that the score store lacks, put them together.

Executors of several processes are in `processes` and `ray`. They are imported at their first use.
"""

from rmbench.scoring.executor import Executor, Workers
from rmbench.scoring.run import Scoring, score_items
from rmbench.scoring.store import PartStores, ScoreStore, default_store_folder, open_store, open_stores
from rmbench.scoring.work import Meter, Progress

__all__ = [
    "Executor",
    "Meter",
    "PartStores",
    "Progress",
    "ScoreStore",
    "Scoring",
    "Workers",
    "default_store_folder",
    "open_store",
    "open_stores",
    "score_items",
]
