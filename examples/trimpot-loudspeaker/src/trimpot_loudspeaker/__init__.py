"""An example plugin for trimpot: a loudspeaker, its equaliser, and a listener."""
