"""How files of arrays are called, for those who only look at names."""

ARRAY_SUFFIXES = (".npz", ".npy", ".pt", ".pth", ".pkl")

__all__ = ["ARRAY_SUFFIXES"]
