"""One exam for every model of a comparison, and the figures that follow from the answers."""
