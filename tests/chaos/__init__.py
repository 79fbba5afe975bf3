"""What a platform does to a pipeline, done on purpose: `make chaos`."""
