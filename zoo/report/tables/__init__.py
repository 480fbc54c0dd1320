"""Tables of a comparison, and the texts that they become."""
