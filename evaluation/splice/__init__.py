"""SpLiCE: evaluating versions, and presenting what they say of images."""
