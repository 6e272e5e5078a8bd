"""`python -m alexnet_lit demo`: a page in the browser on which a picture is dropped or drawn for a net.

Names and choices are checked before torch and Gradio are imported.
"""

from importlib.util import find_spec

from alexnet_lit.config import checkpoint_file
from alexnet_lit.errors import UserError


def demo(ckpt: str, *, port: int | None, device: str, browse: bool) -> int:
    """Serve the page for the net of `ckpt` on this machine alone, until Ctrl-C. Returns the exit status.

    port: None is a free one. browse: open the page in the person's browser too.
    """
    if find_spec("gradio") is None:
        raise UserError('demo: needs gradio: pip install "alexnet-lit[demo]"')
    file = checkpoint_file(ckpt)

    from alexnet_lit.tools.demo.server import serve
    from alexnet_lit.tools.predict.guess import Guesser

    guesser = Guesser(file, background="auto", device=device)
    return serve(guesser, file, port=port, browse=browse)
