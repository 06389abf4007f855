"""Seeing what a model computes: figures, views for a page without a kernel, bertviz, and widgets."""
