"""From features to heads, and from heads to predictions."""
