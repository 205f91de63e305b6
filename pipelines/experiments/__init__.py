"""Experiments: who sees what, what it was worth, and whether that decides anything. See docs/experiments.md."""
