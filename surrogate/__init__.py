"""A model of a finished run that stands in for its backbone: an adapter made of what was recorded."""
