"""The steps of every case: plain functions, one file a step. Runners call them; they know no runner."""
