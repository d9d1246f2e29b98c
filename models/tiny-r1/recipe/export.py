"""Writes the checkpoint: export.py DIR [TARGET]; DIR holds the state of the training.

The running mean of the weights is exported, which is what the training evaluated.
"""

import os
import sys

import torch

from .network import Network, Shape
from .source import data_path
from .weights import export_network


def main():
    directory = sys.argv[1]
    target = sys.argv[2] if len(sys.argv) > 2 else data_path("checkpoint")
    state = torch.load(os.path.join(directory, "state-0.pt"))
    network = Network(Shape(**state["shape"]))
    network.load_state_dict(state["smooth"])
    export_network(network, target)
    print(f"exported step {state['step']}, progress {state['progress']:.3f}, to {target}")


if __name__ == "__main__":
    main()
