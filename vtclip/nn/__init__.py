"""Modules that methods train."""
