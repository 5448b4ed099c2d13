"""What a workflow is: frozen values and pure functions. No clock, no randomness, no I/O."""
