"""What the engine must know of any model: where the tokens of a block are, how to call it on some of them, how its
attention is reached.

Uses no other room.
"""
