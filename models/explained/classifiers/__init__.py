"""Small classifiers that conceptry trains itself: their architectures, features and folders on disk."""
