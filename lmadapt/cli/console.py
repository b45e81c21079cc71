"""Prints lines at the terminal."""

from rich.console import Console


def say(text: str) -> None:
    """Print text with Rich's markup, neither wrapped nor highlighted."""
    Console().print(text, soft_wrap=True, highlight=False)
