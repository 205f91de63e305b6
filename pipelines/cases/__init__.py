"""The case studies: one folder each."""
