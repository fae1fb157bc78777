"""Explanations that are not a map, one module per kind."""
