"""example_case: a case study as `loop new` makes it, to be replaced part by part."""
