"""What outlives a process: the lake, the action log, features (Feast) and the registry (MLflow)."""
