"""Results for everybody: a folder with a model card, pushed to the hub and pulled from there, and a page of many."""
