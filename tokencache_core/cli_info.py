"""`info FILE`: what a model file holds."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from .class_labels import class_names
from .cli_checks import CommandError
from .dit_file import ModelFileError, read_dit


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "info", help="print what a model file holds",
        description="Print a DiT file's shape, parameters, classes and metadata.",
    )
    parser.add_argument(
        "file", metavar="FILE",
        help="a DiT as .safetensors or .pt, in the original release's key layout",
    )


def run(args: argparse.Namespace) -> None:
    try:
        state_dict, config, metadata = read_dit(args.file)
    except ModelFileError as error:
        raise CommandError(str(error)) from None
    names = class_names(metadata, config.num_classes)
    grid = config.input_size // config.patch_size
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state_dict.values()})
    space = "pixels" if config.in_channels == 3 else "VAE latents" if config.in_channels == 4 else "unknown space"
    print(f"file: {args.file}")
    print(f"parameters: {sum(tensor.numel() for tensor in state_dict.values()):,} ({', '.join(dtypes)})")
    print(f"tokens: {grid * grid} ({grid}x{grid}) of {config.input_size}x{config.input_size} inputs in {space}")
    for name, value in asdict(config).items():
        print(f"{name}: {value}")
    print(f"classes: {config.num_classes}, null class {config.num_classes}")
    for index, name in enumerate(names or ()):
        print(f"  {index} {name}")
    for key, value in sorted(metadata.items()):
        if key != "class_names":
            print(f"metadata {key}: {value}")
