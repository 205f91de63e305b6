"""Ten machine-learning systems, each a closed loop, on one platform."""
