"""Measurements against a plain implementation of the published procedure: `python -m bench`."""
