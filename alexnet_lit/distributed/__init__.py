"""How a run spreads over devices and machines."""
