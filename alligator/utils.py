"""Keep the public paths of Alligator 1.0: names of functions, and functions from names."""

from alligator.common.importing import (
    determine_module,
    determine_name,
    import_attr,
    import_module,
)

__all__ = ["determine_module", "determine_name", "import_attr", "import_module"]
