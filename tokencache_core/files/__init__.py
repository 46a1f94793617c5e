"""Files that people share: written whole or not at all, read strictly, and bound to the model that they were made for.

Uses no other room.
"""
