"""Files that users share: written atomically, read strictly, and tied to the model that they were made for.

Uses no other room.
"""
