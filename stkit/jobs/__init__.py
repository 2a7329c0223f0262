"""One job for one photo, for many and for a clip: what it reads, what it does, what it writes."""
