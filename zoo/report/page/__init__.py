"""The page of a comparison, and the files beside it."""
