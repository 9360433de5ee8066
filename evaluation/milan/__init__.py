"""MILAN: evaluating versions, and presenting units with their descriptions."""
