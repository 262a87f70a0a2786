"""ai-producer: a bus, a budget and a brake for a fleet of Claude agents."""
