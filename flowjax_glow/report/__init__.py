"""Pictures and records for people to look at."""
