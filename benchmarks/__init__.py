"""Ours against named peers, on the same work, in the same run; results/ holds what they gave."""
