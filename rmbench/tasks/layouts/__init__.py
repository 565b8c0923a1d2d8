"""Layouts of preference data: recognised by their columns, read as items."""
