"""Commands and configs: thin, over the library."""
