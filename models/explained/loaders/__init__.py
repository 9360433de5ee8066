"""One module for each kind of model that can be explained; `conceptry.models.explained.load` chooses."""
