"""From items to rewards: plan the work, ask the model for what the score store lacks, put it together.

Executors of several processes are in `processes` and `ray`, imported only when they are asked for.
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
