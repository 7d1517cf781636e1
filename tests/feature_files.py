"""Whole feature files in memory, for tests."""

from pathlib import Path

from vtclip.features.store import FeatureBatch, FeatureSet


def read_features(path: str | Path, *, spatial: bool = True) -> FeatureBatch:
    found = FeatureSet([path], spatial=spatial)
    return found.take(range(len(found)))
