"""Prefect flows: thin, they call the steps."""
