"""fiapx: videos in, ZIPs of frames out."""

__version__ = "0.1.0"
