"""Child processes: objects that answer calls there, signs of life, and training environments."""
