"""From files to items: readers, sources, and what is done with rows that do not fit."""

from rmbench.tasks.items import ItemSet, ItemShelf, export_items, hash_items, read_task_items
from rmbench.tasks.readers import READERS

__all__ = ["READERS", "ItemSet", "ItemShelf", "export_items", "hash_items", "read_task_items"]
