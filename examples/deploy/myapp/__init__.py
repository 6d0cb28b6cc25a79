"""An application with one task, for the files in this folder."""
