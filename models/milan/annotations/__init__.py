"""MILANNOTATIONS: units described by people, read by their published layout."""
