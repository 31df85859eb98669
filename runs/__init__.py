"""Runs: forecasting, starting, resuming and extending them, and scoring their images later."""
