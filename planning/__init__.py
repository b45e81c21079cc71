"""Whether a training fits before it starts: memory and time from the settings and the shape of the model alone."""
