"""Formulas of the papers, as pure functions of tensors and of functions of tensors."""
