"""What plugins implement, one contract a file: each knows options and errors, and the rest only by type."""
