"""The describer: features of masked images, a decoder, a language model, and the search for descriptions."""
