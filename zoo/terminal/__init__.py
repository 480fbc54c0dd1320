"""Shared code of programs: command lines, messages, tables."""
