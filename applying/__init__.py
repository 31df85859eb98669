"""Results on living pipelines: find a calibration, load its pipeline, apply it, and call it as it was measured."""
