"""Names of functions, and functions from names: the paths that Alligator 1.0 documented."""

from alligator.common.importing import (
    determine_module,
    determine_name,
    import_attr,
    import_module,
)

__all__ = ["determine_module", "determine_name", "import_attr", "import_module"]
