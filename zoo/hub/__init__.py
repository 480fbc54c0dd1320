"""Agents on the Hugging Face hub: what is uploaded, its model card, and how one is downloaded and played."""
