"""Turn microscope files into patch sets for training, in napari or headless."""

import lazy_loader

__version__ = "0.2.0.dev0"

# The plugin and the command need less than all of this; importing it all takes longer than opening
# a slide.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
