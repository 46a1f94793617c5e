"""What the pack says to people: sentences in English that can be said in another language.

Uses no other room.
"""
