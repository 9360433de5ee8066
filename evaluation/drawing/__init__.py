"""What the figures and pages of all methods share."""
