"""A sampling run of any model, as everything knows it that needs no more than to run it.

Uses engine and what is below it.
"""
