"""VT-CLIP and its baselines, from archives to the few-shot table."""

__version__ = "0.2.0"
