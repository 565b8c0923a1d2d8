"""Tasks: from files to items, with readers, sources and the handling of bad rows."""

from rmbench.tasks.items import ItemSet, ItemShelf, export_items, hash_items, read_task_items
from rmbench.tasks.rows import READERS

__all__ = ["READERS", "ItemSet", "ItemShelf", "export_items", "hash_items", "read_task_items"]
