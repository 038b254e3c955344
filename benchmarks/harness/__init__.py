"""What the parts share: stores and subjects on their cores, the load, rounds and their medians, the page."""
