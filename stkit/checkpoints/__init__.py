"""Readers and converters of other projects' checkpoints, one file a format family."""
