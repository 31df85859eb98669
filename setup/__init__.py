"""What a run is asked to do: read, checked, and its parts made from that."""
