"""Looking at a prompt folder: faults by name, translation quality. Reads through `loading`, writes no data."""
