"""The configuration of a model of which only a name is known."""
