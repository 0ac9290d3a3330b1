"""Batch strategies: which rows and languages make a batch. They see no text."""
