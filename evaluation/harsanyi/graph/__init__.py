"""And-Or graphs: their layout, their figure and their page."""
