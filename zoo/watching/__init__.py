"""Trained agents at work: played for a score, in a window or a video, and pictures of what they think."""
