"""Shared code of the `zoo` commands: command lines, messages, tables."""
