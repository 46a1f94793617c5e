"""What the engine must know about any model: where a block's tokens are, how to call it on some of them, and how to
reach its attention.

Uses no other room.
"""
