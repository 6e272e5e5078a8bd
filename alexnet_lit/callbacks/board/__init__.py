"""What TensorBoard shows beside the curves: pictures, the net, text, and how charts are laid out."""

from alexnet_lit.callbacks.board.callback import Board
from alexnet_lit.callbacks.board.text import introduce

__all__ = ["Board", "introduce"]
