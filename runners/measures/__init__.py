"""Metrics of explanations: what the map of an image is worth, one number per image.

A number that is not defined for an image (an all-zero map has no sparseness) is NaN, and a note says why. The gate
(``runners.gate.measure``) has checked that maps and masks fit the images and that every mask marks something.
"""
