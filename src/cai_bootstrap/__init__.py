"""Bootstrap instruction following in a base language model from a written constitution, and measure it honestly."""

__version__ = "0.1.0"
