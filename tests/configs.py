"""Small configs for the tests."""

from experiments.configs import glow_digits


def tiny(data_dir, **train):
    """glow_digits, shrunk to what compiles in seconds."""
    config = glow_digits.get_config("smoke")
    config.data.data_dir = str(data_dir)
    config.model.depth, config.model.levels, config.model.width = 1, 1, 4
    config.model.permutation = "plu"  # has constants among its params
    config.train.update(train)
    return config
