"""The user's configuration, typed and checked."""
