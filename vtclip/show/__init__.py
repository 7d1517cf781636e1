"""What needs a model to show something."""
