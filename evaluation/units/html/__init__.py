"""Pages of described units."""
