"""The networks, one file each, and what they are made of."""
