"""Bijectors, one a file, named for it."""
