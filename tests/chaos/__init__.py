"""Test the chaos program itself: its accounting, its loops at a small size, the soak."""
