"""Harsanyi interactions: evaluating versions, presenting explanations, and drawing And-Or graphs."""
