"""Conditioner networks, in flax.linen."""
