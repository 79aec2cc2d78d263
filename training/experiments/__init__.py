"""Experiments: variants by seeds, trained, evaluated, compared and reported."""
