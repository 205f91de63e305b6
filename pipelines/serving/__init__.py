"""Serving: requests answered by the champion, and what users do with the answers."""
