"""Beside the published code: the same numbers, and how long both sides take."""
