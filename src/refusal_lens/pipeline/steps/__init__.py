"""pipeline/steps."""
