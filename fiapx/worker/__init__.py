"""Takes jobs from processing's queue and runs the engine on them."""
