"""Make charts of what workers recorded: read it, add it up over time, and draw it as SVG."""
