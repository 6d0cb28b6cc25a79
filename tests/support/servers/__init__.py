"""Starting real servers on free loopback ports, and stopping them again."""
