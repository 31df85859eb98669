"""The surrogate: an adapter that replaces a run's backbone by a model fitted to the run's recorded scores."""
