"""Use of a trained head: classifying images, exporting, and pictures of attention."""

from vtclip.inference.classifier import load_classifier

__all__ = ["load_classifier"]
