"""Packaged recipes: ready configurations, each a YAML file named like the recipe."""
