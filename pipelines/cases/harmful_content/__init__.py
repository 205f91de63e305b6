"""Harmful content: which posts break the rules, and how sure that is."""
