"""The pure core: no I/O, no clock, no logging, no randomness. Facts in, decisions out."""
