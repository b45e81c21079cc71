"""Before a training starts: does it fit (plan), and is all in order that it needs (doctor)."""
