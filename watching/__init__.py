"""A live page of the runs of a folder, which only reads."""
