"""Video recommendation: retrieve, then rank."""
