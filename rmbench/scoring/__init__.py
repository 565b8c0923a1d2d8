"""From items to rewards: plan the work, do what the score store does not know yet, put it together."""

from rmbench.scoring.crew import Crew, Pool
from rmbench.scoring.ray import RayActors, ray_actors_for
from rmbench.scoring.run import Scoring, score_items
from rmbench.scoring.store import PartStores, ScoreStore, default_store_folder, open_store, open_stores
from rmbench.scoring.work import Meter, Progress
from rmbench.scoring.workers import Workers, workers_for

__all__ = [
    "Crew",
    "Meter",
    "PartStores",
    "Pool",
    "Progress",
    "RayActors",
    "ScoreStore",
    "Scoring",
    "Workers",
    "default_store_folder",
    "open_store",
    "open_stores",
    "ray_actors_for",
    "score_items",
    "workers_for",
]
