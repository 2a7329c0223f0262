"""Networks. Architecture only: no file locations, no downloads."""
