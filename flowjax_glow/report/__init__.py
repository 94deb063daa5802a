"""Pictures, records, and counts on paper, for people to look at."""
