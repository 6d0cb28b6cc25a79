"""Start real servers on free loopback ports, and stop them again."""
