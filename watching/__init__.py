"""While a training runs: that it learns, what it forgets, how far it is, and when it is time to stop or to save."""
