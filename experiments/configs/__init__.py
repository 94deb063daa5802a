"""One file an experiment, over default.py."""
