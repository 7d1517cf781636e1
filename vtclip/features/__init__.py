"""From images and class names to features in Parquet."""
