"""What the programs share at the terminal: command lines, messages, tables."""
