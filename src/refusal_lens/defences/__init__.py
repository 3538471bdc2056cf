"""defences."""
