"""The embedded experiment: a small CLIP and two small datasets, made on the spot."""
