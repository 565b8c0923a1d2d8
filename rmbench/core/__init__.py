"""Foundations: identities, files, registries, YAML, options, escapes, progress, digits."""
