"""Pictures in and out: files, crops and where they go back. It knows no networks."""
