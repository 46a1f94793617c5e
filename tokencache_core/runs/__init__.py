"""The interface of a sampling run of any model, and cached sampling with it.

Uses engine and what is below it.
"""
