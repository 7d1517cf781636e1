"""Show a page in the browser on which images are dropped and classified.

It is served to this machine alone, unless --host says otherwise: then anybody who can reach the
address can classify images. Images stay on this machine, and none is kept.
"""

from __future__ import annotations

import argparse

from vtclip.cli import add_backbone, add_rules, take_device

HELP = "classify images in the browser"
EXAMPLES = """examples:
  vtclip serve demo/digits/vt_clip/16shot-seed1
  vtclip serve digits.safetensors --coverage 0.9 --refuse 0.05 --port 8080
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("head", metavar="HEAD", help="the trained head, as for `vtclip classify`")
    add_rules(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="port (default: 8000; 0: any)")
    add_backbone(parser)


def run(given: argparse.Namespace) -> int:
    """Serve until it is interrupted."""
    from vtclip.inference.classifier import load_classifier
    from vtclip.inference.serving import Answering, make_server

    with take_device("auto") as device:
        classifier = load_classifier(given.head, backbone=given.backbone, device=device)
        rules = classifier.rules(given.coverage, given.refuse, by_class=given.by_class)
        with make_server(Answering(classifier, rules), given.host, given.port) as server:
            host = f"[{given.host}]" if ":" in given.host else given.host
            print(f"http://{host}:{server.server_address[1]}/  (end it with Ctrl-C)", flush=True)
            server.serve_forever()
    return 0
