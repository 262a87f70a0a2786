"""The version of the program: the build reads it from here, and so does every process, without a look at the disk."""

__version__ = "1.0.0.dev0"
