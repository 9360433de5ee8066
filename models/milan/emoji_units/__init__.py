"""Units of the emoji world whose properties are known: annotated, planted, and computed from colours."""
