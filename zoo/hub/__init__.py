"""Agents for the Hugging Face hub: what is uploaded, and its model card."""
