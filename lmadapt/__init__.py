"""lmadapt: teach a language model your domain, and prove what it kept."""

__version__ = "0.1.0"
