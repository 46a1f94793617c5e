"""A text-to-image rectified-flow transformer of the Flux architecture: network, prompts and file."""
