"""The emoji world: synthetic scenes of pictured objects, with captions and everything that is true of them."""
