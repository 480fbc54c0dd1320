"""What several algorithms share: methods that are not complete by themselves."""
