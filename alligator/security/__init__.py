"""Decide which functions a message may run: allow policy, blocklist, signatures.

Imports: ``alligator.common`` and below. Exports :class:`Policy`.
"""

from alligator.security.policy import Policy

__all__ = ["Policy"]
