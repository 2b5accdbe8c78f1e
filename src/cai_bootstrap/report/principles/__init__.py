"""The page of the constitution stage."""
