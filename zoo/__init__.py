"""The programs of the zoo and what they share."""
