"""Recipes: how families of public reward models are read."""
