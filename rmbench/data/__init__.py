"""From files to items: readers, sources, and what is done with rows that do not fit."""

from rmbench.data.items import ItemSet, export_items, hash_items, read_task_items
from rmbench.data.readers import READERS
from rmbench.data.shelf import ItemShelf

__all__ = ["READERS", "ItemSet", "ItemShelf", "export_items", "hash_items", "read_task_items"]
