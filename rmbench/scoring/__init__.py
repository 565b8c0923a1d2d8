"""From items to rewards: plan the work, ask the model for what the score store lacks, put it together.

Processes and Ray actors that score are in `workers` and `ray`, imported only where they are asked for.
"""

from rmbench.scoring.crew import Crew, Pool
from rmbench.scoring.run import Scoring, score_items
from rmbench.scoring.store import PartStores, ScoreStore, default_store_folder, open_store, open_stores
from rmbench.scoring.work import Meter, Progress

__all__ = [
    "Crew",
    "Meter",
    "PartStores",
    "Pool",
    "Progress",
    "ScoreStore",
    "Scoring",
    "default_store_folder",
    "open_store",
    "open_stores",
    "score_items",
]
