"""Readers: one a format, each from a model to an `Inventory`."""
