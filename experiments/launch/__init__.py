"""Starts a command on many machines, or as many processes on this one."""
