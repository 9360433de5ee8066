"""All four methods on photographs that come with scikit-image and scikit-learn."""
