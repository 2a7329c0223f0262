"""Numbers about images: errors of pairs, distances of sets, and the networks that they look through."""
