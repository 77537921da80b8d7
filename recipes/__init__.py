"""Recipes: from a published corpus to a scored recognizer, one folder each."""
